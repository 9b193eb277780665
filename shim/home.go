// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// home is the place of the serving process among the cgroups, which start chose.
// It is moved to once, beside the first requests; a container's create waits for
// that and fails with it: a shim that serves containers from within the daemon's
// unit would be ended with it. The next create tries again.
type home struct {
	systemd systemd
	// scope and slice are those to make, or "".
	scope, slice string
	// stop is how long systemd is to wait for the scope's end.
	stop time.Duration
	// dir is a cgroup to join, or "".
	dir string

	mu     sync.Mutex
	latest *move // guarded by mu
}

// move is one attempt. err is set before done is closed.
type move struct {
	done chan struct{}
	err  error
}

func (m *move) failed() bool {
	select {
	case <-m.done:
		return m.err != nil
	default:
		return false
	}
}

// newHome reads what start chose from the environment. limit bounds each step of an
// attempt.
func newHome(id string, r children, limit time.Duration) *home {
	h := &home{
		systemd: systemd{children: r, limit: limit},
		scope:   scopeName(id),
		slice:   os.Getenv(sliceEnv),
		stop:    stayTimeout,
		dir:     os.Getenv(cgroupEnv),
	}
	if os.Getenv(followEnv) != "" {
		h.stop = followTimeout
	}
	return h
}

// begin has an attempt under way, or one that succeeded, and returns it.
func (h *home) begin() *move {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latest == nil || h.latest.failed() {
		m := &move{done: make(chan struct{})}
		h.latest = m
		go func() {
			defer close(m.done)
			m.err = h.settle()
		}()
	}
	return h.latest
}

// await returns once the shim is in its place, or cannot be.
//
// Errors: of class context.DeadlineExceeded when systemd does not answer; what
// systemd refuses with has none.
func (h *home) await(ctx context.Context) error {
	m := h.begin()
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("wait until the shim is in its own cgroup: %w", ctx.Err())
	}
}

// rest returns when no attempt is under way.
func (h *home) rest(ctx context.Context) error {
	h.mu.Lock()
	m := h.latest
	h.mu.Unlock()
	if m == nil {
		return nil
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the shim is on its way to its cgroup: %w", ctx.Err())
	}
}

// settle makes one attempt. Where there is no way at all, the shim stays where it
// is, with a warning: no later attempt would help.
func (h *home) settle() error {
	var err error
	switch {
	case h.slice != "":
		err = h.enterScope()
		if err != nil && !errors.Is(err, errNoBus) {
			log.L.WithError(err).Warn("the shim is still in the daemon's cgroup")
			return err
		}
	case h.dir != "":
		err = cgroup.Join(h.dir, os.Getpid())
	}
	if err != nil {
		log.L.WithError(err).Warn("the shim stays in the daemon's cgroup and can be ended with it")
	}
	return nil
}

// enterScope has systemd put this process into a scope, and waits until it is
// there.
func (h *home) enterScope() error {
	inside := func() (bool, error) {
		now, err := cgroup.Own()
		return path.Base(now) == h.scope, err
	}
	// An attempt that was given up may have succeeded since.
	if there, err := inside(); there || err != nil {
		return err
	}
	if err := h.systemd.reachable(); err != nil {
		return err
	}
	if err := h.systemd.startScope(context.Background(), h.scope, h.slice, os.Getpid(), h.stop); err != nil {
		return fmt.Errorf("put the shim into a scope of its own: ask systemd to start %s: %w", h.scope, err)
	}
	// The answer is a job, which nobody tells the end of but D-Bus signals.
	ctx, cancel := context.WithTimeout(context.Background(), h.systemd.limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if there, err := inside(); there || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("put the shim into a scope of its own: systemd started a job for %s and did not finish it within %s: %w", h.scope, h.systemd.limit, ctx.Err())
		}
	}
}

// scopeName is unique on the host, by the pid, and tells whose shim it is.
func scopeName(id string) string {
	const longest = 200 // of 255 that systemd allows
	safe := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '.', r == '-':
			return r
		}
		return '_'
	}, id)
	if len(safe) > longest {
		safe = safe[:longest]
	}
	return fmt.Sprintf("quoin-shim-%s-%d.scope", safe, os.Getpid())
}
