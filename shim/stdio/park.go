// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
)

// Adopter is a Children that can also wait for programs which it has not
// started itself. Resume needs one when the State has a running logger.
type Adopter interface {
	Children
	// Adopt takes over the program pid, of which pidfd (non-blocking, the IO's)
	// is a descriptor. From then on nobody else may reap it. It is a child of
	// this process when an earlier image of this process had started it, and
	// otherwise it is not; it may be dead already.
	//
	// wait is called once, when pidfd has told that the program has ended. It
	// reaps it (waitid with P_PIDFD is exact) and returns what exec.Cmd.Wait would
	// say: nil after an exit with status 0. It does not block; for what is no
	// child it returns an error that says that the status is not known.
	Adopt(pid int, pidfd *os.File) (wait func() error, err error)
}

// Park brings the copying to rest at a point at which every byte is either in a
// descriptor or in the State, and returns that State. The streams, and a
// logger's end, then wait until Unpark, or until another image goes on with
// Resume. No descriptor is closed or changed, and a call of Drain or Finish that
// is under way goes on waiting. A second call returns the State again.
//
// It is errdefs.ErrUnavailable, and everything goes on as before, when Started is
// under way or when something does not come to rest before ctx ends (the error
// is ctx's too, and names it), which only a write to a file on a hanging file
// system should cause. After Close, or when Started failed, it is
// errdefs.ErrFailedPrecondition.
func (i *IO) Park(ctx context.Context) (State, error) {
	return State{}, fmt.Errorf("standard streams of %q: %w", i.opts.ID, errdefs.ErrNotImplemented)
}

// Unpark goes on after Park. Without Park it does nothing.
func (i *IO) Unpark() {}

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
	return nil, fmt.Errorf("resuming the standard streams of %q: %w", s.ID, errdefs.ErrNotImplemented)
}

// Go begins to copy after Resume. When Finishing says so, Finish has to be
// called as well. Without Resume before, and a second time, it is
// errdefs.ErrFailedPrecondition.
func (i *IO) Go() error {
	return fmt.Errorf("standard streams of %q: %w", i.opts.ID, errdefs.ErrNotImplemented)
}

// Finishing says that a call of Finish was under way when the State from which i
// was resumed was taken. Finish is then to be called again, in the same way: it
// goes on where the other was, with what was left of its times.
func (i *IO) Finishing() bool { return false }

// Abandon releases this process's hold on a parked IO, for somebody else holds
// all its descriptors and goes on with it: nothing is ended or told to anybody.
// Of an IO that is not parked it is errdefs.ErrFailedPrecondition.
func (i *IO) Abandon() error {
	return fmt.Errorf("standard streams of %q: %w", i.opts.ID, errdefs.ErrNotImplemented)
}
