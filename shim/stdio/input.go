// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// input is the process's stdin on its way from the client.
type input struct {
	io   *IO
	from target
	fifo bool
	sink slot // stdinSink, or the terminal
	m    meter
	c    *copier // nil until Started and when all is copied
}

// openInput makes the process's end of stdin and opens a file.
func (i *IO) openInput(from target) error {
	if from.kind == kindNone {
		return nil
	}
	in := &input{io: i, from: from, sink: stdinSink}
	var err error
	if in.fifo, err = isFIFO(from); err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	if !in.fifo {
		f, err := os.OpenFile(from.path, unix.O_RDONLY|openFlags, 0)
		if err != nil {
			return fmt.Errorf("stdin: %w", err)
		}
		if err := i.fds.put(stdinSource, f); err != nil {
			return err
		}
	}
	i.stdin = in
	if i.terminal {
		in.sink = consoleMaster
		return nil
	}
	r, w, err := newPipe("stdin", i.opts.UID, i.opts.GID)
	if err != nil {
		return err
	}
	if err := i.fds.put(childStdin, r); err != nil {
		return errors.Join(err, w.Close())
	}
	if w, err = pollable(w); err != nil {
		return err
	}
	return i.fds.put(stdinSink, w)
}

// attachInput opens the client's named pipe. It does not wait for a writer, and
// the writing end that is held until CloseStdin makes the absence of one no end
// of the stream.
func (i *IO) attachInput() error {
	if i.stdin == nil || !i.stdin.fifo {
		return nil
	}
	path := i.stdin.from.path
	source, err := openFIFO(path, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("opening stdin of %q: %w", i.opts.ID, err)
	}
	if err := i.fds.put(stdinSource, source); err != nil {
		return fmt.Errorf("opening stdin of %q: %w", i.opts.ID, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stdinClosed {
		return nil
	}
	keeper, err := openKeeper(path, unix.O_WRONLY)
	if err != nil {
		return fmt.Errorf("opening stdin of %q: %w", i.opts.ID, err)
	}
	return i.fds.put(stdinKeeper, keeper)
}

// CloseStdin lets the process's stdin end once the client has closed its end
// too and what it wrote has been copied. It may be called at any time and again,
// but is errdefs.ErrUnavailable while the IO is parked.
func (i *IO) CloseStdin() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.parked != notParked {
		return fmt.Errorf("closing stdin of %q: the streams are parked: %w", i.opts.ID, errdefs.ErrUnavailable)
	}
	i.stdinClosed = true
	if err := i.fds.close(stdinKeeper); err != nil {
		return fmt.Errorf("closing stdin of %q: %w", i.opts.ID, err)
	}
	return nil
}

// prepare makes the copier of stdin.
func (in *input) prepare() error {
	i := in.io
	src, dst := i.fds.get(stdinSource), i.fds.get(in.sink)
	if src == nil || dst == nil {
		return fmt.Errorf("stdin of %q: %w", i.opts.ID, os.ErrClosed)
	}
	c, err := newCopier(i.ctx, &i.crew, src, dst, &in.m, nil)
	if err != nil {
		return err
	}
	c.sticky = true // whoever does not read its stdin has no use for it
	if i.terminal {
		c.lastWord = endOfInput
	}
	in.c = c
	return nil
}

func (in *input) String() string { return "the copying of stdin from " + in.from.path }

func (in *input) rouse() {
	if in.c != nil {
		in.c.rouse()
	}
}

// work copies stdin and closes it.
func (in *input) work() (done bool) {
	i := in.io
	err := in.c.run()
	if err == errResting {
		return false
	}
	in.m.finish()
	i.crew.free(&in.c)
	if errors.Is(err, os.ErrClosed) {
		return true // by Close
	}
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.EIO) && i.ctx.Err() == nil {
		i.log.WithError(err).WithField("stream", "stdin").Warn("input ended early")
	}
	// With the reading end closed, a client that writes on gets EPIPE. The
	// terminal stays: its output goes on.
	_ = i.fds.close(stdinSource, stdinSink)
	return true
}
