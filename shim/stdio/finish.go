// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"time"
)

// Finish is called once when the process has exited, and ends its outputs: the
// client sees the end of each stream as soon as the last process that holds it
// has gone, or, if such a process goes on, once everything that was written
// before the exit has been delivered (see Drain) and linger has passed. What is
// written later is lost. A client of a command that leaves a daemon behind would
// otherwise wait for that daemon.
//
// In an IO that was resumed and of which Finishing says so it goes on where the
// earlier call was, within what was left of its times.
//
// It returns Drain's error, and then the streams are left open, since bytes are
// still in them. A logger has its own pipe and is left to Close.
func (i *IO) Finish(ctx context.Context, linger time.Duration) error {
	f := i.beginFinish(ctx, linger)
	if f == nil {
		return nil
	}
	defer i.endFinish(f)
	if !f.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, f.until)
		defer cancel()
	}
	if !f.drained {
		if err := i.drainTo(ctx, f.marks); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithDeadline(ctx, i.beginLinger(f))
	defer cancel()
	for _, o := range i.outputs {
		if o.direct || o.m.ended(ctx) {
			continue
		}
		o.m.cut()
		if src := i.fds.get(o.source); src != nil {
			_ = src.SetReadDeadline(pastDeadline) // fails when closed, then copying is over
		}
	}
	return nil
}

// finishing is a call of Finish under way, or one that an earlier image of the
// program had begun. Its fields are written with IO.mu held.
type finishing struct {
	marks   []mark        // of the outputs, in their order
	until   time.Time     // the end of the call's context; zero without one
	drained bool          // the marks have been passed
	linger  time.Duration // what is left of it until then
	cutAt   time.Time     // when those that hold the outputs are cut off; zero until drained

	left *FinishState // that of the earlier image, until the call here
}

// beginFinish notes a call of Finish, or takes up the one of the earlier image.
// It returns nil when the process never started. With the mutex held throughout,
// a State has all of it or nothing.
func (i *IO) beginFinish(ctx context.Context, linger time.Duration) *finishing {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.phase != phaseStarted {
		return nil
	}
	if f := i.finish; f != nil && f.left != nil {
		f.until, f.linger = f.left.deadline(), time.Duration(f.left.LingerLeft)
		f.left = nil
		return f
	}
	f := &finishing{marks: i.marks(), linger: linger}
	f.until, _ = ctx.Deadline()
	i.finish = f
	return f
}

// beginLinger notes that the outputs have been drained, and returns when those
// that hold them are to be cut off.
func (i *IO) beginLinger(f *finishing) time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	f.drained, f.cutAt = true, time.Now().Add(f.linger)
	return f.cutAt
}

func (i *IO) endFinish(f *finishing) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.finish == f {
		i.finish = nil
	}
}

// ended waits until copying is over, or ctx ends, and tells which.
func (m *meter) ended(ctx context.Context) bool {
	for {
		m.mu.Lock()
		if m.finished {
			m.mu.Unlock()
			return true
		}
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// cut makes the copier take its source for ended at its next look.
func (m *meter) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.severed = true
}

func (m *meter) isCut() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.severed
}
