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
// It returns Drain's error, and then the streams are left open, since bytes are
// still in them. A logger has its own pipe and is left to Close.
func (i *IO) Finish(ctx context.Context, linger time.Duration) error {
	if err := i.Drain(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, linger)
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
