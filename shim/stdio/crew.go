// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
)

// errResting is how a worker learns that it is to come to rest.
var errResting = errors.New("brought to rest")

// worker is one goroutine's work, which can be laid down and taken up again.
type worker interface {
	// work works until it is done (true) or, when the crew rests, has come to a
	// point from which another call goes on (false).
	work() (done bool)
	// rouse makes a work that waits look whether the crew rests, by deadlines
	// that are in the past. It is called with the crew's mutex held.
	rouse()
	// String says what the work is, for the message that it does not rest.
	String() string
}

// crew runs an IO's workers, each in its goroutine. While it rests there is
// none: a worker that rests is nothing but its fields, which may then be read.
type crew struct {
	mu      sync.Mutex
	resting atomic.Bool   // written with mu held
	workers []post        // those that are not done, guarded by mu
	active  int           // how many of them run, guarded by mu
	still   chan struct{} // closed when none runs any more; nil if nobody waits, guarded by mu
}

// post is a worker and whether its goroutine runs.
type post struct {
	worker
	runs bool
}

// add gives the crew a worker, which begins at once unless the crew rests.
func (c *crew) add(w worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers = append(c.workers, post{worker: w})
	if !c.resting.Load() {
		c.startLocked()
	}
}

// startLocked starts whoever does not run.
func (c *crew) startLocked() {
	for n := range c.workers {
		p := &c.workers[n]
		if !p.runs {
			p.runs = true
			c.active++
			go c.run(p.worker)
		}
	}
}

func (c *crew) run(w worker) {
	for {
		done := w.work()
		if c.leave(w, done) {
			return
		}
	}
}

// free forgets the copier of a worker that needs it no more, but that rouse may
// be looking at.
func (c *crew) free(of **copier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*of = nil
}

// leave notes that w does not work any more. It is false when w came to rest
// and the rest is over already.
func (c *crew) leave(w worker, done bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !done && !c.resting.Load() {
		return false
	}
	n := slices.IndexFunc(c.workers, func(p post) bool { return p.worker == w })
	if done {
		c.workers = slices.Delete(c.workers, n, n+1)
	} else {
		c.workers[n].runs = false
	}
	if c.active--; c.active == 0 && c.still != nil {
		close(c.still)
		c.still = nil
	}
	return true
}

// stillLocked returns a channel that is closed when no worker runs.
func (c *crew) stillLocked() <-chan struct{} {
	if c.active == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if c.still == nil {
		c.still = make(chan struct{})
	}
	return c.still
}

// idle returns a channel that is closed when no worker runs.
func (c *crew) idle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stillLocked()
}

// rest returns when no worker runs, and none will until resume. If ctx ends
// before, the rest is over and the error says who did not come to it.
func (c *crew) rest(ctx context.Context) error {
	c.mu.Lock()
	c.resting.Store(true)
	for _, p := range c.workers {
		if p.runs {
			p.rouse()
		}
	}
	still := c.stillLocked()
	c.mu.Unlock()
	select {
	case <-still:
		return nil
	case <-ctx.Done():
	}
	busy := c.busy()
	c.resume()
	return fmt.Errorf("%s: does not come to rest: %w: %w", strings.Join(busy, ", "), context.Cause(ctx), errdefs.ErrUnavailable)
}

// busy names the workers that run.
func (c *crew) busy() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.workers {
		if p.runs {
			names = append(names, p.String())
		}
	}
	return names
}

// resume ends the rest.
func (c *crew) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resting.Store(false)
	c.startLocked()
}

// awake is called by a worker at its beginning and when a deadline of its files
// has passed. It removes the deadlines, unless the crew rests: then it says so
// by errResting. dst may be nil.
func (c *crew) awake(src, dst *os.File) error {
	// With the mutex, or the deadlines of a rest that begins now might be removed.
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resting.Load() {
		return errResting
	}
	// What has no deadline (a regular file) has nobody waiting for it, and what
	// is closed says so to whoever uses it next.
	_ = src.SetReadDeadline(noDeadline)
	if dst != nil {
		_ = dst.SetWriteDeadline(noDeadline)
	}
	return nil
}
