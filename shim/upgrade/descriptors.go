// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// firstFD is the first descriptor after the standard streams.
const firstFD = 3

// Inherit leaves exactly these descriptors, beside the standard streams, open in
// what this process executes or forks. No child may be started meanwhile that is not
// to have them. undo makes them close-on-exec again.
func Inherit(fds []int) (undo func(), err error) {
	// What was inherited by accident stops here (Linux 5.11; before that Go's own
	// flags are what there is).
	_ = unix.CloseRange(firstFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	undo = func() {
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			undo()
			return nil, fmt.Errorf("hand on descriptor %d: %w", fd, os.NewSyscallError("fcntl", err))
		}
	}
	return undo, nil
}

// Inherited are descriptors that an earlier image has left open.
type Inherited struct {
	left map[int]bool
}

// Take makes descriptors close-on-exec that an image has handed on. One that is not
// open is errdefs.ErrInvalidArgument. It comes before anything that forks.
func Take(fds []int) (*Inherited, error) {
	i := &Inherited{left: make(map[int]bool, len(fds))}
	for _, fd := range fds {
		if fd < firstFD {
			return nil, fmt.Errorf("descriptor %d cannot have been handed on: %w", fd, errdefs.ErrInvalidArgument)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("descriptor %d was not handed on: %w: %w", fd, err, errdefs.ErrInvalidArgument)
		}
		i.left[fd] = true
	}
	return i, nil
}

// File returns the file of a descriptor, once: it is the caller's then. A number
// that was not handed on, or is somebody's already, is errdefs.ErrInvalidArgument.
func (i *Inherited) File(fd int) (*os.File, error) {
	if !i.left[fd] {
		return nil, fmt.Errorf("descriptor %d was not handed on, or twice: %w", fd, errdefs.ErrInvalidArgument)
	}
	delete(i.left, fd)
	return os.NewFile(uintptr(fd), fmt.Sprintf("inherited %d", fd)), nil
}

// Close closes what nobody has taken.
func (i *Inherited) Close() error {
	var errs []error
	for fd := range i.left {
		errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
	}
	clear(i.left)
	return errors.Join(errs...)
}

// Number is the number of a file's or a connection's descriptor, which stays as
// it is: os.File.Fd would make it blocking.
func Number(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	number := -1
	err = raw.Control(func(fd uintptr) { number = int(fd) })
	return number, err
}
