// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// lockTimeout bounds the wait for others that make a socket in the same
// directory. They hold the lock for microseconds, unless they are stopped.
const lockTimeout = 10 * time.Second

// backlog is the length of the accept queue; a full one is no dead shim.
const backlog = 128

// InUseError says that a shim already listens where a new one wanted to. It is
// errdefs.ErrAlreadyExists; "start" answers it with the address it carries.
type InUseError struct {
	// Address is that of the living shim.
	Address string
}

// Error names the address.
func (e *InUseError) Error() string { return "a shim listens already at " + e.Address }

// Unwrap makes it errdefs.ErrAlreadyExists.
func (e *InUseError) Unwrap() error { return errdefs.ErrAlreadyExists }

// Listen makes the socket of a shim at path, with mode 0600 from its first
// moment, in a directory that it makes with mode 0700 if need be.
//
// A socket that nobody answers at is replaced; one that is answered is an
// InUseError. Any number of processes may try the same path at once: one
// listens and the others get the InUseError. They are kept apart by a lock on
// the directory, which leaves no file behind and ends with its holder.
//
// A directory that other users could write to, or that is not ours, is
// errdefs.ErrFailedPrecondition, and so is a file at path that is no socket.
// The listener does not unlink path when it is closed: it is handed on to the
// process that serves.
func Listen(path string) (*net.UnixListener, error) {
	if err := checkLength(path); err != nil {
		return nil, err
	}
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	dir, err = lock(dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close() // and unlock

	if err := removeDead(path); err != nil {
		return nil, err
	}
	f, err := bind(path)
	if err != nil {
		return nil, fmt.Errorf("make shim socket %s: %w", path, err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make shim socket %s: %w", path, err), Remove(path))
	}
	return l.(*net.UnixListener), nil
}

// openDir makes the directory if it is not there and checks that nobody else
// can put a socket into it.
func openDir(path string) (*os.File, error) {
	// The parents are of the kind of /run/containerd, which others may traverse.
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("socket directory %s is a symbolic link or a file: name a directory: %w", path, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, fmt.Errorf("open socket directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("stat socket directory %s: %w", path, err)
	}
	if uid := os.Geteuid(); int(st.Uid) != uid || st.Mode&0o022 != 0 {
		f.Close()
		return nil, fmt.Errorf("socket directory %s belongs to uid %d with mode %04o, and must belong to uid %d and be writable for it alone: %w",
			path, st.Uid, st.Mode&0o7777, uid, errdefs.ErrFailedPrecondition)
	}
	return f, nil
}

// lock takes the lock on an open directory, and the directory with it: it is
// closed on error.
func lock(dir *os.File) (*os.File, error) {
	err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return dir, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		dir.Close()
		return nil, fmt.Errorf("lock socket directory %s: %w", dir.Name(), err)
	}
	// flock has no deadline, so the wait has a goroutine. The channel takes its
	// result although nobody may be there to read it any more.
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(dir.Fd()), unix.LOCK_EX)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			locked <- err
			return
		}
	}()
	timer := time.NewTimer(lockTimeout)
	defer timer.Stop()
	select {
	case err = <-locked:
		if err == nil {
			return dir, nil
		}
		dir.Close()
		return nil, fmt.Errorf("lock socket directory %s: %w", dir.Name(), err)
	case <-timer.C:
		go func() {
			<-locked
			dir.Close()
		}()
		return nil, fmt.Errorf("lock socket directory %s: another process has held it for %s: %w", dir.Name(), lockTimeout, errdefs.ErrUnavailable)
	}
}

// removeDead removes a socket that nobody answers at. The caller holds the lock, so
// what was found dead cannot come alive in between.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at shim socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way of the shim's socket and is none (%s): remove it: %w", path, info.Mode(), errdefs.ErrFailedPrecondition)
	}
	alive, err := answered(path)
	if err != nil {
		return fmt.Errorf("probe shim socket %s: %w", path, err)
	}
	if alive {
		return &InUseError{Address: Address(path)}
	}
	return Remove(path)
}

// answered tells whether a process listens at path. It never waits.
func answered(path string) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case err == nil, errors.Is(err, unix.EAGAIN): // EAGAIN: its accept queue is full
		return true, nil
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return false, nil
	default:
		return false, os.NewSyscallError("connect", err)
	}
}

// bind makes a listening socket. Linux gives the file the mode of the socket
// (unix_bind), so it is set before there is a file, and the umask, which would
// be that of every thread, can stay as it is.
func bind(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Fchmod(fd, 0o600); err != nil {
		f.Close()
		return nil, os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		f.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		f.Close()
		return nil, errors.Join(os.NewSyscallError("listen", err), Remove(path))
	}
	return f, nil
}

// SameUser is a ttrpc handshaker that admits only peers with our effective user
// id, whatever the socket's mode: a descriptor can be passed on, a mode changed.
func SameUser() ttrpc.Handshaker {
	return ttrpc.UnixSocketRequireUidGid(syscall.Geteuid(), -1)
}
