// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// input is the process's stdin on its way from the client.
type input struct {
	from target
	fifo bool
	sink slot // stdinSink, or the terminal
	m    meter
}

// openInput makes the process's end of stdin and opens a file.
func (i *IO) openInput(from target) error {
	if from.kind == kindNone {
		return nil
	}
	in := &input{from: from, sink: stdinSink}
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
// too and what it wrote has been copied. It may be called at any time and again.
func (i *IO) CloseStdin() error {
	i.mu.Lock()
	i.stdinClosed = true
	i.mu.Unlock()
	if err := i.fds.close(stdinKeeper); err != nil {
		return fmt.Errorf("closing stdin of %q: %w", i.opts.ID, err)
	}
	return nil
}

// copier returns the function that copies stdin.
func (in *input) copier(i *IO) (func(), error) {
	src, dst := i.fds.get(stdinSource), i.fds.get(in.sink)
	if src == nil || dst == nil {
		return nil, fmt.Errorf("stdin of %q: %w", i.opts.ID, os.ErrClosed)
	}
	c, err := newCopier(i.ctx, src, dst, &in.m, nil)
	if err != nil {
		return nil, err
	}
	c.buffered = i.terminal
	c.sticky = true // whoever does not read its stdin has no use for it
	return func() {
		err := c.run()
		in.m.finish()
		if errors.Is(err, os.ErrClosed) {
			return // by Close
		}
		if err == nil && i.terminal {
			err = sendEOF(dst)
		}
		if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.EIO) && i.ctx.Err() == nil {
			i.log.WithError(err).WithField("stream", "stdin").Warn("input ended early")
		}
		// With the reading end closed, a client that writes on gets EPIPE. The
		// terminal stays: its output goes on.
		_ = i.fds.close(stdinSource, stdinSink)
	}, nil
}
