// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// consoleSocketSlot is the name of the one descriptor that is not in a slot.
const consoleSocketSlot = "consoleSocket"

// flagsKept are the open file's flags by which a descriptor is recognised.
const flagsKept = unix.O_ACCMODE | unix.O_NONBLOCK | unix.O_APPEND

// save returns the State of an IO whose crew rests.
func (i *IO) save() (State, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.phase == phaseClosed {
		return State{}, errClosed
	}
	s := State{
		ID:          i.opts.ID,
		Phase:       phaseNames[i.phase],
		Stdin:       i.streams.Stdin,
		Stdout:      i.streams.Stdout,
		Stderr:      i.streams.Stderr,
		Terminal:    i.terminal,
		StdinClosed: i.stdinClosed,
		Logger:      i.saveLogger(),
		Finish:      i.saveFinish(),
	}
	if i.stdin != nil {
		s.Input = &InputState{FIFO: i.stdin.fifo, FlowState: saveFlow(&i.stdin.m, i.stdin.c)}
	}
	for _, o := range i.outputs {
		if !o.direct {
			s.Outputs = append(s.Outputs, OutputState{
				Stream: o.name, FIFO: o.fifo, Shared: o.shared, Released: o.released, FlowState: saveFlow(&o.m, o.c),
			})
		}
	}
	if i.socket != nil && i.phase == phaseOpen {
		s.ConsoleDir = filepath.Base(i.socket.dir)
	}
	var err error
	s.Descriptors, err = i.saveDescriptors()
	return s, err
}

// saveFlow returns how far c, which rests, has come; it is nil before the start
// and after the end.
func saveFlow(m *meter, c *copier) FlowState {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := FlowState{
		Taken:     m.taken,
		Delivered: m.delivered,
		Dropped:   m.dropped,
		Empties:   m.empties,
		Exited:    m.exited,
		Cut:       m.severed,
		Ended:     m.finished,
	}
	if c != nil {
		f.Pending = bytes.Clone(c.pending)
		f.SourceEnded, f.Failed, f.GivenUp = c.over, c.told, c.givenUp && c.dst != nil
	}
	return f
}

func (i *IO) saveLogger() *LoggerState {
	if i.logger == nil {
		return nil
	}
	s := &LoggerState{PID: i.logger.pid}
	select {
	case <-i.logger.ended:
		s.Ended = true
		if i.logger.err != nil {
			s.Error = i.logger.err.Error()
		}
	default:
	}
	i.crew.mu.Lock()
	defer i.crew.mu.Unlock()
	for _, p := range i.crew.workers {
		if d, ok := p.worker.(*dropper); ok {
			s.Dropping = append(s.Dropping, d.slot.String())
		}
	}
	return s
}

func (i *IO) saveFinish() *FinishState {
	f := i.finish
	switch {
	case f == nil:
		return nil
	case f.left != nil:
		return f.left
	}
	now := time.Now()
	s := &FinishState{Drained: f.drained, LingerLeft: int64(f.linger), Bounded: !f.until.IsZero()}
	if s.Bounded {
		s.DrainLeft = int64(max(0, f.until.Sub(now)))
	}
	if f.drained {
		s.LingerLeft = int64(max(0, f.cutAt.Sub(now)))
	}
	for n, o := range i.outputs {
		if !o.direct {
			s.Marks = append(s.Marks, MarkState{Stream: o.name, Delivered: f.marks[n].target, Empties: f.marks[n].empties})
		}
	}
	return s
}

// saveDescriptors lists what the IO holds.
func (i *IO) saveDescriptors() (all []DescriptorState, _ error) {
	save := func(slot string, f syscall.Conn) error {
		d, err := identify(slot, f)
		if err != nil {
			return err
		}
		all = append(all, d)
		return nil
	}
	for s := range numSlots {
		if f := i.fds.get(s); f != nil {
			if err := save(s.String(), f); err != nil {
				return nil, err
			}
		}
	}
	if i.socket != nil && i.phase == phaseOpen {
		if err := save(consoleSocketSlot, i.socket.listener); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// identify says which descriptor f has, and what it is.
func identify(slot string, f syscall.Conn) (DescriptorState, error) {
	d := DescriptorState{Slot: slot}
	conn, err := f.SyscallConn()
	if err != nil {
		return d, fmt.Errorf("descriptor %s: %w", slot, err)
	}
	var st unix.Stat_t
	var statErr, flagsErr error
	err = conn.Control(func(fd uintptr) { // os.File.Fd would make it blocking
		d.FD = int(fd)
		statErr = unix.Fstat(int(fd), &st)
		d.Flags, flagsErr = unix.FcntlInt(fd, unix.F_GETFL, 0)
		if slot == consoleMaster.String() {
			d.PTS, _ = unix.IoctlGetUint32(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(err, statErr, flagsErr); err != nil {
		return d, fmt.Errorf("descriptor %s: %w", slot, err)
	}
	d.Device, d.Inode, d.Flags = st.Dev, st.Ino, d.Flags&flagsKept
	return d, nil
}
