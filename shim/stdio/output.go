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
	name                        string
	to                          target
	child, source, sink, keeper slot
	fifo                        bool // the client's end is a named pipe
	shared                      bool // sink is the same file as the other stream's
	direct                      bool // a logger reads the pipe itself
	m                           meter
}

// openOutputs makes the process's ends of stdout and stderr and opens files.
func (i *IO) openOutputs(p plan) error {
	stdout := &output{name: "stdout", to: p.stdout, child: childStdout, source: stdoutSource, sink: stdoutSink, keeper: stdoutKeeper}
	stderr := &output{name: "stderr", to: p.stderr, child: childStderr, source: stderrSource, sink: stderrSink, keeper: stderrKeeper}
	if i.terminal {
		// It is read even if nobody wants the output: it must not fill up.
		stdout.source = consoleMaster
		i.outputs = []*output{stdout}
	} else if p.stdout.logger() {
		// Its pipes are the process's; see openLogger.
		stdout.direct, stderr.direct = true, true
		i.outputs = []*output{stdout, stderr}
		return nil
	} else {
		for _, o := range []*output{stdout, stderr} {
			if o.to.kind != kindNone {
				i.outputs = append(i.outputs, o)
			}
		}
	}
	for _, o := range i.outputs {
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

// copier returns the function that copies o, nil when nothing is to be copied.
func (o *output) copier(i *IO) (func(), error) {
	if o.direct {
		return nil, nil
	}
	src, dst := i.fds.get(o.source), i.fds.get(o.sink)
	if src == nil || dst == nil && o.to.kind != kindNone {
		return nil, fmt.Errorf("%s of %q: %w", o.name, i.opts.ID, os.ErrClosed)
	}
	logger := i.log.WithField("stream", o.name)
	failed := false
	c, err := newCopier(i.ctx, src, dst, &o.m, func(err error) {
		failed = true
		logger.WithError(err).Warn("output cannot be written and is dropped")
	})
	if err != nil {
		return nil, err
	}
	// Splicing from a terminal copies all the same.
	c.pty, c.buffered = i.terminal, i.terminal
	return func() {
		err := c.run()
		dropped := o.m.finish()
		if failed {
			logger.WithField("bytes", dropped).Warn("output was dropped")
		}
		o.end(i, err, logger)
	}, nil
}

// end releases what o alone holds once its source has ended, so that the
// client sees the end of its stream.
func (o *output) end(i *IO, err error, logger *log.Entry) {
	if errors.Is(err, os.ErrClosed) {
		return // by Close, which closes the rest too
	}
	if err != nil {
		logger.WithError(err).Warn("output ended early")
	}
	if !i.terminal {
		err = i.fds.close(o.source)
	}
	if o.fifo {
		// Its last bytes are lost if both ends are closed while no client has
		// it open. With the keeper gone, a reader can be told from none.
		err = errors.Join(err, i.fds.close(o.keeper))
		if sink := i.fds.get(o.sink); sink != nil {
			err = errors.Join(err, awaitReader(i.ctx, o.to.path, sink))
		}
	}
	if !o.shared {
		err = errors.Join(err, i.fds.close(o.sink))
	}
	if err != nil && i.ctx.Err() == nil {
		logger.WithError(err).Warn("output was not closed properly")
	}
}
