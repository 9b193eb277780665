// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Resume makes an IO from a State and the descriptors in it. o is what Open was
// given, by the same ID; with a running logger o.Children must be an Adopter.
// file returns the file of a descriptor's number in the State, which from then
// on is the IO's: made by os.NewFile, close-on-exec, and with its O_NONBLOCK
// unchanged (os.File.Fd changes it). It is called once for each number.
//
// Nothing that cannot be taken back is done: no byte is copied, nothing is
// reaped, signalled or closed at the client's side before Go. Only Park, Go,
// Abandon and Close make sense until then.
//
// A State that contradicts itself, or descriptors that are not what it says, is
// errdefs.ErrInvalidArgument. On error the files that file returned are closed.
func Resume(s State, file func(fd int) (*os.File, error), o Options) (*IO, error) {
	i, err := resume(s, file, o)
	if err != nil {
		return nil, fmt.Errorf("resuming the standard streams of %q: %w", cmp.Or(o.ID, s.ID), err)
	}
	return i, nil
}

func resume(s State, file func(fd int) (*os.File, error), o Options) (_ *IO, retErr error) {
	if s.ID != o.ID {
		return nil, invalid("the state is that of %q", s.ID)
	}
	p, err := s.check()
	if err != nil {
		return nil, err
	}
	i := newIO(Streams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Terminal: s.Terminal}, o)
	i.stdinClosed, i.parked = s.StdinClosed, parkResumed
	i.crew.resting.Store(true) // nobody else has i yet
	if s.started() {
		i.phase = phaseStarted
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, i.Abandon())
		}
	}()
	if err := i.takeDescriptors(s, file); err != nil {
		return nil, err
	}
	if err := i.resumeStreams(s, p); err != nil {
		return nil, err
	}
	return i, i.resumeLogger(s, p)
}

// takeDescriptors gets hold of all descriptors of s.
func (i *IO) takeDescriptors(s State, file func(fd int) (*os.File, error)) error {
	for _, d := range s.Descriptors {
		f, err := file(d.FD)
		if err != nil {
			return fmt.Errorf("descriptor %d (%s): %w", d.FD, d.Slot, err)
		}
		if err := i.takeDescriptor(s, d, f); err != nil {
			return err
		}
	}
	return nil
}

func (i *IO) takeDescriptor(s State, d DescriptorState, f *os.File) error {
	if d.Slot == consoleSocketSlot {
		defer f.Close()
		if err := verify(d, f); err != nil {
			return err
		}
		return i.resumeSocket(s.ConsoleDir, f)
	}
	slot, _ := slotByName(d.Slot) // check knows it
	if err := i.fds.put(slot, f); err != nil {
		return err
	}
	return verify(d, f)
}

// verify makes sure that f is what d tells, though perhaps by another number.
func verify(d DescriptorState, f *os.File) error {
	is, err := identify(d.Slot, f)
	if err != nil {
		return err
	}
	was := d
	was.FD = is.FD
	if is != was {
		return invalid("descriptor %d is not the %s any more: it is %+v and was %+v", d.FD, d.Slot, is, was)
	}
	if is.Flags&unix.O_NONBLOCK == 0 {
		return nil
	}
	// What does not block is waited for in the poller, where it has deadlines.
	if err := f.SetDeadline(noDeadline); err != nil {
		return fmt.Errorf("descriptor %d (%s) cannot be waited for: %w", d.FD, d.Slot, err)
	}
	return nil
}

// resumeSocket makes the console's socket of a listening descriptor.
func (i *IO) resumeSocket(name string, f *os.File) error {
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("the console's socket: %w", err)
	}
	dir := filepath.Join(cmp.Or(i.opts.Dir, os.TempDir()), name)
	s := &consoleSocket{dir: dir, path: filepath.Join(dir, socketName)}
	listener, ok := l.(*net.UnixListener)
	if !ok || listener.Addr().String() != s.path {
		return errors.Join(invalid("the console's socket is at %s instead of %s", l.Addr(), s.path), l.Close())
	}
	s.listener = listener
	i.socket = s
	return nil
}

func (i *IO) resumeStreams(s State, p plan) error {
	if s.Input != nil {
		i.stdin = &input{io: i, from: p.stdin, fifo: s.Input.FIFO, sink: stdinSink}
		if i.terminal {
			i.stdin.sink = consoleMaster
		}
		i.stdin.m.resume(s.Input.FlowState)
	}
	n := 0
	for _, o := range p.outputs(i.terminal) {
		o.io = i
		i.outputs = append(i.outputs, o)
		if o.direct {
			continue
		}
		is := s.Outputs[n] // check has seen that they are the same ones
		n++
		o.fifo, o.shared, o.released = is.FIFO, is.Shared, is.Released
		if o.shared {
			o.sink = stdoutSink
		}
		o.m.resume(is.FlowState)
	}
	if !s.started() {
		return nil
	}
	return i.resumeCopiers(s)
}

// resumeCopiers makes the copiers of what has not ended.
func (i *IO) resumeCopiers(s State) error {
	if s.Input != nil && !s.Input.Ended {
		if err := i.stdin.prepare(); err != nil {
			return err
		}
		i.stdin.c.resume(s.Input.FlowState)
	}
	n := 0
	for _, o := range i.outputs {
		if o.direct {
			continue
		}
		is := s.Outputs[n]
		n++
		if is.Ended {
			continue
		}
		if err := o.prepare(); err != nil {
			return err
		}
		o.c.resume(is.FlowState)
	}
	i.resumeFinish(s.Finish)
	i.employ()
	return nil
}

func (m *meter) resume(f FlowState) {
	m.taken, m.delivered, m.dropped, m.empties = f.Taken, f.Delivered, f.Dropped, f.Empties
	m.exited, m.severed, m.finished = f.Exited, f.Cut, f.Ended
}

func (c *copier) resume(f FlowState) {
	c.pending, c.over, c.told = bytes.Clone(f.Pending), f.SourceEnded, f.Failed
	c.givenUp = c.givenUp || f.GivenUp
}

func (i *IO) resumeFinish(f *FinishState) {
	if f == nil {
		return
	}
	i.finish = &finishing{drained: f.Drained, left: f}
	n := 0
	for _, o := range i.outputs {
		var at mark
		if !o.direct {
			at = mark{target: f.Marks[n].Delivered, empties: f.Marks[n].Empties}
			n++
		}
		i.finish.marks = append(i.finish.marks, at)
	}
}

// Go begins to copy after Resume. No other process may hold the descriptors any
// more: a copy of one of them looks like a client that is there, or like a
// process that writes on. When Finishing says so, Finish has to be
// called as well. Without Resume before, and a second time, it is
// errdefs.ErrFailedPrecondition.
func (i *IO) Go() error {
	if !i.unpark(parkResumed) {
		return fmt.Errorf("standard streams of %q: there is nothing that was resumed: %w", i.opts.ID, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Finishing says that a call of Finish was under way when the State from which i
// was resumed was taken. Finish is then to be called again, in the same way: it
// goes on where the other was, with what was left of its times. To call it for
// every process that has ended is right too: where an earlier call has returned
// there is nothing left to end, or a client that may come back.
func (i *IO) Finishing() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.finish != nil && i.finish.left != nil
}
