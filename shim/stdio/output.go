// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// output is one of the process's output streams on its way to the client.
type output struct {
	io                          *IO
	name                        string
	to                          target
	child, source, sink, keeper slot
	fifo                        bool // the client's end is a named pipe
	shared                      bool // sink is the same file as the other stream's
	direct                      bool // a logger reads the pipe itself
	m                           meter
	c                           *copier            // nil until Started and when all is copied
	released                    bool               // copied, and the client's end is closed
	wake                        context.CancelFunc // ends the wait for a reader, guarded by crew.mu
}

// outputs are the output streams that a process has.
func (p plan) outputs(terminal bool) (outputs []*output) {
	stdout := &output{name: "stdout", to: p.stdout, child: childStdout, source: stdoutSource, sink: stdoutSink, keeper: stdoutKeeper}
	stderr := &output{name: "stderr", to: p.stderr, child: childStderr, source: stderrSource, sink: stderrSink, keeper: stderrKeeper}
	switch {
	case terminal:
		// It is read even if nobody wants the output: it must not fill up.
		stdout.source = consoleMaster
		return []*output{stdout}
	case p.stdout.logger():
		stdout.direct, stderr.direct = true, true // its pipes are the process's
		return []*output{stdout, stderr}
	}
	for _, o := range []*output{stdout, stderr} {
		if o.to.kind != kindNone {
			outputs = append(outputs, o)
		}
	}
	return outputs
}

// openOutputs makes the process's ends of stdout and stderr and opens files.
func (i *IO) openOutputs(p plan) error {
	i.outputs = p.outputs(i.terminal)
	for _, o := range i.outputs {
		o.io = i
		if o.direct { // see openLogger
			continue
		}
		if err := o.open(i); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	if len(i.outputs) == 2 {
		i.share(i.outputs[0], i.outputs[1])
	}
	return nil
}

// open makes the pipe of o and opens its file, if it goes to one.
func (o *output) open(i *IO) error {
	var err error
	switch o.to.kind {
	case kindPath, kindFIFO:
		o.fifo, err = isFIFO(o.to)
	case kindFile:
		// containerd's client and the runc shim use these modes.
		err = os.MkdirAll(filepath.Dir(o.to.path), 0o755)
	}
	if err != nil {
		return err
	}
	if !o.fifo && (o.to.kind == kindPath || o.to.kind == kindFile) {
		flags := unix.O_WRONLY | unix.O_APPEND | openFlags
		if o.to.kind == kindFile {
			flags |= unix.O_CREAT
		}
		f, err := os.OpenFile(o.to.path, flags, 0o644)
		if err != nil {
			return err
		}
		if err := i.fds.put(o.sink, f); err != nil {
			return err
		}
	}
	if i.terminal {
		return nil
	}
	r, w, err := newPipe(o.name, i.opts.UID, i.opts.GID)
	if err != nil {
		return err
	}
	if err := i.fds.put(o.child, w); err != nil {
		return errors.Join(err, r.Close())
	}
	if r, err = pollable(r); err != nil {
		return err
	}
	return i.fds.put(o.source, r)
}

// share lets two streams that go to one file have one descriptor.
func (i *IO) share(a, b *output) {
	fa, fb := i.fds.get(a.sink), i.fds.get(b.sink)
	if fa == nil || fb == nil {
		return
	}
	sa, errA := fa.Stat()
	sb, errB := fb.Stat()
	if errA != nil || errB != nil || !os.SameFile(sa, sb) {
		return
	}
	_ = i.fds.close(b.sink) // nothing has been written through it
	b.sink, a.shared, b.shared = a.sink, true, true
}

// attachOutputs opens the client's named pipes, which waits for their readers.
func (i *IO) attachOutputs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, i.deadlines.Open)
	defer cancel()
	for _, o := range i.outputs {
		if !o.fifo {
			continue
		}
		sink, keeper, err := openFIFOWriter(ctx, o.to.path)
		if err != nil {
			return fmt.Errorf("opening %s of %q: %w", o.name, i.opts.ID, err)
		}
		if err := errors.Join(i.fds.put(o.sink, sink), i.fds.put(o.keeper, keeper)); err != nil {
			return fmt.Errorf("opening %s of %q: %w", o.name, i.opts.ID, err)
		}
	}
	return nil
}

// prepare makes the copier of o, unless a logger reads the pipe itself.
func (o *output) prepare() error {
	if o.direct {
		return nil
	}
	i := o.io
	src, dst := i.fds.get(o.source), i.fds.get(o.sink)
	if src == nil || dst == nil && o.to.kind != kindNone {
		return fmt.Errorf("%s of %q: %w", o.name, i.opts.ID, os.ErrClosed)
	}
	c, err := newCopier(i.ctx, &i.crew, src, dst, &o.m, func(err error) {
		i.log.WithField("stream", o.name).WithError(err).Warn("output cannot be written and is dropped")
	})
	if err != nil {
		return err
	}
	c.pty = i.terminal
	o.c = c
	return nil
}

func (o *output) String() string { return "the copying of " + o.name + " to " + o.to.path }

func (o *output) rouse() {
	if o.c != nil {
		o.c.rouse()
	}
	if o.wake != nil {
		o.wake()
	}
}

// work copies o and then lets the client see its end.
func (o *output) work() (done bool) {
	var err error
	if !o.m.over() {
		if err = o.c.run(); err == errResting {
			return false
		}
		dropped := o.m.finish()
		if o.c.told {
			o.log().WithField("bytes", dropped).Warn("output was dropped")
		}
		o.io.crew.free(&o.c)
	}
	return o.end(err)
}

func (o *output) log() *log.Entry { return o.io.log.WithField("stream", o.name) }

// end releases what o alone holds once its source has ended, so that the
// client sees the end of its stream. It is false when it came to rest before.
func (o *output) end(err error) (done bool) {
	if errors.Is(err, os.ErrClosed) {
		return true // by Close, which closes the rest too
	}
	i := o.io
	if err != nil {
		o.log().WithError(err).Warn("output ended early")
	}
	var errs []error
	if !i.terminal {
		errs = append(errs, i.fds.close(o.source))
	}
	if o.fifo {
		// Its last bytes are lost if both ends are closed while no client has
		// it open. With the keeper gone, a reader can be told from none.
		errs = append(errs, i.fds.close(o.keeper))
		err := o.awaitReader()
		if err == errResting {
			return false
		}
		errs = append(errs, err)
	}
	if !o.shared {
		errs = append(errs, i.fds.close(o.sink))
	}
	if err := errors.Join(errs...); err != nil && i.ctx.Err() == nil {
		o.log().WithError(err).Warn("output was not closed properly")
	}
	o.released = true
	return true
}

// awaitReader waits for somebody to whom the client's named pipe can be left.
func (o *output) awaitReader() error {
	sink := o.io.fds.get(o.sink)
	if sink == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(o.io.ctx)
	defer cancel()
	if !o.waiting(cancel) {
		return errResting
	}
	defer o.waiting(nil)
	err := awaitReader(ctx, o.to.path, sink)
	if err != nil && ctx.Err() != nil && o.io.ctx.Err() == nil {
		return errResting
	}
	return err
}

// waiting sets how to end the wait for a reader. It is false when there must be
// none because the crew rests.
func (o *output) waiting(wake context.CancelFunc) bool {
	o.io.crew.mu.Lock()
	defer o.io.crew.mu.Unlock()
	o.wake = wake
	return !o.io.crew.resting.Load()
}
