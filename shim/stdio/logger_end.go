// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// drainTick and drainTickMax pace the look at a logger's pipes while Drain
	// waits; no event tells a pipe's writer that its reader has emptied it.
	drainTick    = time.Millisecond
	drainTickMax = 20 * time.Millisecond
	// selfEndShare is the part of Deadlines.Logger, one in so many, that a logger
	// has to end by itself after the end of its input.
	selfEndShare = 4
)

// drain waits until each pipe has been seen empty, or the program has ended.
func (l *logger) drain(ctx context.Context) error {
	pending := l.readers()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for tick := drainTick; ; tick = min(2*tick, drainTickMax) {
		select {
		case <-l.ended:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("logger %s reads no further: %w", l.path, ctx.Err())
		case <-timer.C:
		}
		left := pending[:0]
		for _, f := range pending {
			if f != nil && queuedIn(f) > 0 {
				left = append(left, f)
			}
		}
		if pending = left; len(pending) == 0 {
			return nil
		}
		timer.Reset(tick)
	}
}

// stop ends the program. The runc shim keeps the writing ends until Delete and
// then closes them and sends SIGTERM at once, on which a logger built with
// containerd's core/runtime/v2/logging cancels its context and may leave what
// the pipe still holds. Here the program has seen the end of its input as soon
// as the last process was gone, and if so it has a quarter of Deadlines.Logger
// to write what it has and end by itself. Then, or at once while some process
// still holds the pipes, it gets SIGTERM, and SIGKILL after Deadlines.Logger.
// The call returns when the program is reaped.
func (l *logger) stop() error {
	if l.inputEnded() && l.await(l.timeout()/selfEndShare) {
		return nil
	}
	if err := l.signal(unix.SIGTERM); err != nil {
		return errors.Join(err, l.kill())
	}
	if l.await(l.timeout()) {
		return nil
	}
	return l.kill()
}

// kill ends the program and waits until it is reaped.
func (l *logger) kill() error {
	if err := l.signal(unix.SIGKILL); err != nil {
		return err
	}
	if !l.await(l.timeout()) {
		return fmt.Errorf("logger %s does not end by SIGKILL: %w", l.path, context.DeadlineExceeded)
	}
	return nil
}

// inputEnded reports whether nobody can write to the program any more.
func (l *logger) inputEnded() bool {
	for _, f := range l.readers() {
		if f == nil {
			continue
		}
		if events, err := pollNow(f, unix.POLLIN); err == nil && events&unix.POLLHUP == 0 {
			return false
		}
	}
	return true
}

// await waits for the program to be reaped, d at most.
func (l *logger) await(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.ended:
		return true
	case <-timer.C:
		return false
	}
}

// dropper empties one pipe of a dead logger until its writers are gone.
type dropper struct {
	io   *IO
	slot slot
	c    *copier
}

// dropFrom gives the crew a dropper for the pipe of s.
func (i *IO) dropFrom(s slot) error {
	// The descriptor's flags were shared with the program, which minds no more.
	src, err := i.fds.swap(s, pollable)
	if err != nil {
		return err
	}
	return i.dropOn(s, src)
}

// dropOn is dropFrom for a pipe that is in the poller already.
func (i *IO) dropOn(s slot, src *os.File) error {
	c, err := newCopier(i.ctx, &i.crew, src, nil, new(meter), nil)
	if err != nil {
		return err
	}
	i.crew.add(&dropper{io: i, slot: s, c: c})
	return nil
}

func (d *dropper) String() string { return "the dropping of a dead logger's output" }

func (d *dropper) rouse() { d.c.rouse() }

func (d *dropper) work() (done bool) {
	err := d.c.run()
	if err == errResting {
		return false
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		d.io.log.WithError(err).Warn("output of a dead logger cannot be read")
	}
	return true
}
