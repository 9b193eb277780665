// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containerd/fifo"
	"golang.org/x/sys/unix"
)

// openFlags go with every open: a path that a client named must not become the
// shim's controlling terminal, and nothing is inherited by accident.
const openFlags = unix.O_NOCTTY | unix.O_CLOEXEC

// isFIFO tells a named pipe from what can only be read or appended to.
func isFIFO(t target) (bool, error) {
	st, err := os.Stat(t.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, fmt.Errorf("%s must be made before the process is created: %w: %w", t.path, err, errdefs.ErrInvalidArgument)
	case err != nil:
		return false, err
	case st.IsDir():
		return false, fmt.Errorf("%s is a directory: %w", t.path, errdefs.ErrInvalidArgument)
	case t.kind == kindFIFO && st.Mode()&os.ModeNamedPipe == 0:
		return false, fmt.Errorf("%s is not a named pipe: %w", t.path, errdefs.ErrInvalidArgument)
	}
	return st.Mode()&os.ModeNamedPipe != 0, nil
}

// openFIFOWriter opens both ends of the named pipe at path for output, after
// its reader has opened it. The keeper, a reading end that is never read, makes
// the pipe outlive that reader.
func openFIFOWriter(ctx context.Context, path string) (sink, keeper *os.File, err error) {
	sink, err = openFIFO(path, unix.O_WRONLY)
	if errors.Is(err, unix.ENXIO) { // no reader yet
		waiter, waitErr := fifo.OpenFifo(ctx, path, unix.O_WRONLY, 0)
		if waitErr != nil {
			if ctx.Err() != nil {
				waitErr = ctx.Err()
			}
			return nil, nil, fmt.Errorf("waiting for a reader of %s: %w", path, waitErr)
		}
		defer waiter.Close()
	} else if err != nil {
		return nil, nil, err
	}
	if keeper, err = openKeeper(path, unix.O_RDONLY); err != nil {
		if sink != nil {
			_ = sink.Close()
		}
		return nil, nil, err
	}
	if sink == nil {
		// There is a reader now, the keeper: this cannot be ENXIO again.
		if sink, err = openFIFO(path, unix.O_WRONLY); err != nil {
			_ = keeper.Close()
			return nil, nil, err
		}
	}
	return sink, keeper, nil
}

// openFIFO opens one end without waiting, for use through Go's poller.
func openFIFO(path string, mode int) (*os.File, error) {
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK|openFlags, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Mode()&os.ModeNamedPipe == 0 {
		err = fmt.Errorf("%s is no longer a named pipe: %w", path, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openKeeper opens an end that is only held. It stays out of the poller, which
// would be woken by every transfer for nothing.
func openKeeper(path string, mode int) (*os.File, error) {
	fd, err := unix.Open(path, mode|unix.O_NONBLOCK|openFlags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, errors.Join(fmt.Errorf("holding %s open: %w", path, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// awaitReader returns once the pipe behind sink, whose keeper is closed, has a
// reader, or can have none any more because path leads elsewhere.
func awaitReader(ctx context.Context, path string, sink *os.File) error {
	held, err := sink.Stat()
	if err != nil {
		return err
	}
	for {
		events, err := pollNow(sink, unix.POLLOUT)
		if err != nil || events&unix.POLLERR == 0 {
			return err
		}
		if now, err := os.Stat(path); err != nil || !os.SameFile(held, now) {
			return err
		}
		if err := openBesides(ctx, sink); err != nil {
			return err
		}
	}
}

// openBesides opens the pipe behind sink for writing once more, which waits for
// a reader: the kernel tells nobody else that one has come. It blocks a thread,
// but only for a process that ended while its client was away.
//
// When ctx ends before, a reader of its own ends that wait. Both are gone when
// openBesides returns: whoever looks next must not take them for the client.
func openBesides(ctx context.Context, sink *os.File) error {
	handle, path, err := handleOf(sink)
	if err != nil {
		return err
	}
	opened := make(chan error, 1)
	go func() { opened <- openAndClose(path, unix.O_WRONLY) }()
	select {
	case err := <-opened:
		return errors.Join(err, unix.Close(handle))
	case <-ctx.Done():
	}
	reader, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|openFlags, 0)
	if err != nil { // no descriptor is free: the wait lasts until a reader comes
		go func() {
			<-opened
			_ = unix.Close(handle)
		}()
		return errors.Join(ctx.Err(), err)
	}
	return errors.Join(ctx.Err(), <-opened, unix.Close(reader), unix.Close(handle))
}

// handleOf returns a descriptor of f's file that neither reads nor writes, and a
// path by which it can be opened.
func handleOf(f *os.File) (handle int, path string, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, "", err
	}
	var openErr error
	err = conn.Control(func(fd uintptr) {
		handle, openErr = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if err = errors.Join(err, openErr); err != nil {
		return -1, "", fmt.Errorf("waiting for a reader of %s: %w", f.Name(), err)
	}
	return handle, fmt.Sprintf("/proc/self/fd/%d", handle), nil
}

func openAndClose(path string, mode int) error {
	for {
		fd, err := unix.Open(path, mode|openFlags, 0)
		switch {
		case err == nil:
			return unix.Close(fd)
		case err != unix.EINTR:
			return err
		}
	}
}

// pollNow returns f's present poll events without waiting.
func pollNow(f *os.File, events int16) (revents int16, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var pollErr error
	err = conn.Control(func(fd uintptr) { revents, pollErr = pollFD(fd, events) })
	return revents, errors.Join(err, pollErr)
}

func pollFD(fd uintptr, events int16) (int16, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		_, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return fds[0].Revents, err
		}
	}
}
