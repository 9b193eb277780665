// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Drain is called when the process has exited. It returns when every byte that
// was written to the outputs before the call has been delivered: is in the
// client's named pipe or in the file, or has been taken by the logger. Other
// processes may still hold the streams, and write; that does not keep it (but a
// logger's pipe must have been seen empty once). If ctx ends first, as when a
// client does not read, its error is returned. Copying goes on in any case.
// Before Started it returns nil at once.
func (i *IO) Drain(ctx context.Context) error {
	i.mu.Lock()
	started := i.phase == phaseStarted
	i.mu.Unlock()
	if !started {
		return nil
	}
	return i.drainTo(ctx, i.marks())
}

// marks returns the present position of each output, in their order.
func (i *IO) marks() []mark {
	marks := make([]mark, len(i.outputs))
	for n, o := range i.outputs {
		if !o.direct {
			marks[n] = o.mark(i)
		}
	}
	return marks
}

// drainTo waits until the outputs have passed marks and the logger's pipes have
// been seen empty.
func (i *IO) drainTo(ctx context.Context, marks []mark) error {
	var errs []error
	for n, o := range i.outputs {
		if o.direct {
			continue
		}
		if err := o.m.wait(ctx, marks[n]); err != nil {
			errs = append(errs, fmt.Errorf("draining %s of %q, its destination %q takes no more: %w", o.name, i.opts.ID, o.to.path, err))
		}
	}
	if i.logger != nil {
		if err := i.logger.drain(ctx); err != nil {
			errs = append(errs, fmt.Errorf("draining the output of %q: %w", i.opts.ID, err))
		}
	}
	return errors.Join(errs...)
}

// mark returns the position behind what has been written to o.
func (o *output) mark(i *IO) mark {
	src := i.fds.get(o.source)
	if src == nil {
		return mark{}
	}
	if !i.terminal {
		return o.m.mark(func() int { return queuedIn(src) })
	}
	// How much a terminal holds cannot be asked: a part of it is on its way
	// through a kernel worker. But a read waits for that worker (n_tty_read), so
	// one more read that finds nothing proves that there was nothing.
	m := o.m.mark(func() int { return ptyBacklog })
	_ = src.SetReadDeadline(pastDeadline) // fails when closed, then copying is over
	return m
}

// queuedIn returns how many bytes wait in f, 0 when it is closed.
func queuedIn(f *os.File) (n int) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = conn.Control(func(fd uintptr) { n = queued(fd) })
	return n
}
