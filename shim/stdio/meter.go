// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"sync"
)

// ptyBacklog is more than a terminal holds between the process's write and the
// master's read: the kernel limits a pty's flip buffers to 8 KiB
// (pty_common_install) and the line discipline's buffer to 4 KiB
// (N_TTY_BUF_SIZE); output processing may double that.
const ptyBacklog = 64 << 10

// meter counts what passes a copier, so that Drain can tell what was written
// before a moment from what came after it. The copier takes bytes from its
// source only with mu held: for whoever holds mu, a byte is either in the
// source or counted.
type meter struct {
	mu        sync.Mutex
	taken     uint64 // bytes read from the source
	delivered uint64 // of these, bytes that have reached the destination or were given up
	dropped   uint64 // of these, bytes given up
	empties   uint64 // how often the source was found empty with all delivered
	finished  bool   // the source has ended, or copying has
	exited    bool   // the process has exited (set by mark)
	severed   bool   // the source is to be taken for ended (set by cut)
	changed   chan struct{}
}

// mark is a position in a stream.
type mark struct {
	target  uint64 // delivered bytes that prove the position passed
	empties uint64 // or empties, when above
}

// notifyLocked wakes those who wait for a change.
func (m *meter) notifyLocked() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// take counts n bytes as taken that come from elsewhere than the source.
func (m *meter) take(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken += uint64(n)
}

// deliver counts n bytes as delivered, dropped ones among them.
func (m *meter) deliver(n, dropped int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delivered += uint64(n)
	m.dropped += uint64(dropped)
	m.notifyLocked()
}

// finish says that nothing more will be taken, and returns what was dropped.
func (m *meter) finish() (dropped uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished = true
	m.notifyLocked()
	return m.dropped
}

// over reports whether finish has been called.
func (m *meter) over() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.finished
}

// mark returns the position behind everything that is in the source now, which
// is backlog bytes at most (called with mu held), and notes that the process has
// exited.
func (m *meter) mark(backlog func() int) mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exited = true
	return mark{target: m.taken + uint64(backlog()), empties: m.empties}
}

// wait returns once the position has been passed or ctx ends.
func (m *meter) wait(ctx context.Context, to mark) error {
	for {
		m.mu.Lock()
		if m.finished || m.delivered >= to.target || m.empties > to.empties {
			m.mu.Unlock()
			return nil
		}
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
