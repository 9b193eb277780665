// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// UnknownStatus is told of a process whose status nobody knows: containerd's
// client calls it so (client.UnknownExitStatus).
const UnknownStatus = 255

// reapPatience is how long a process that is dead may stay a zombie until its
// status is read from there. It is reaped by whoever adopted it, at once if that
// is a proper init.
const reapPatience = 500 * time.Millisecond

// Witness holds on to a process that is no child of this one, and can tell how it
// ended. It needs Linux 6.15 for that, whose kernel keeps the status for whoever has
// held a pidfd since before the process was reaped.
type Witness struct {
	id   Identity
	fd   int
	info func(fd int, info *unix.PidfdInfo) error
	// doomed says that SIGKILL reached the process while it was not yet exiting:
	// then that is how it ends (kernel/signal.c, complete_signal).
	doomed bool
}

// Watch opens a process. One that is gone, or another of the same pid, is
// errdefs.ErrNotFound.
func Watch(id Identity) (*Witness, error) {
	if err := id.check(); err != nil {
		return nil, fmt.Errorf("watch a process: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if boot != id.Boot {
		return nil, fmt.Errorf("process %d was there before the last boot: %w", id.Pid, errdefs.ErrNotFound)
	}
	fd, err := unix.PidfdOpen(id.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", id.Pid, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", id.Pid, os.NewSyscallError("pidfd_open", err))
	}
	// Looked at after the pidfd was opened: if this is the process, so was that.
	stat, err := readStat(id.Pid)
	if err == nil && stat.start != id.Start {
		err = fmt.Errorf("process %d is another one: %w", id.Pid, errdefs.ErrNotFound)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Witness{id: id, fd: fd, info: unix.IoctlPidfdInfo}, nil
}

// Close releases the pidfd.
func (w *Witness) Close() error { return os.NewSyscallError("close", unix.Close(w.fd)) }

// FD is the pidfd, for a poller. It is the Witness's to close.
func (w *Witness) FD() int { return w.fd }

// Identity of the process.
func (w *Witness) Identity() Identity { return w.id }

// Kill sends SIGKILL to exactly this process. One that is gone is no error.
func (w *Witness) Kill() error {
	stat, err := readStat(w.id.Pid)
	alive := err == nil && stat.start == w.id.Start && !stat.exiting()
	if err := w.Signal(unix.SIGKILL); err != nil {
		return err
	}
	w.doomed = w.doomed || alive
	return nil
}

// Signal sends a signal to exactly this process. One that is gone is no error.
func (w *Witness) Signal(sig unix.Signal) error {
	err := unix.PidfdSendSignal(w.fd, sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send signal %d to process %d: %w", int(sig), w.id.Pid, err)
	}
	return nil
}

// Dead tells whether the process has ended, be it reaped or not.
func (w *Witness) Dead() bool { return w.poll(unix.POLLIN, 0) }

// Wait blocks until the process has ended, or ctx has.
func (w *Witness) Wait(ctx context.Context) error {
	for !w.poll(unix.POLLIN, slice(ctx)) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process %d does not end: %w", w.id.Pid, err)
		}
	}
	return nil
}

// slice is how long one poll may take, in milliseconds: a context cannot end it.
func slice(ctx context.Context) int {
	const longest = 100
	deadline, ok := ctx.Deadline()
	if !ok {
		return longest
	}
	return int(min(max(time.Until(deadline).Milliseconds(), 0), longest))
}

// poll asks for events; 0 asks for the hangup that tells of the reaping.
func (w *Witness) poll(events int16, timeout int) bool {
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: events}}
	n, err := unix.Poll(fds, timeout)
	return err == nil && n > 0
}

// Exit tells how the process ended. It is Unknown when the kernel does not tell,
// and errdefs.ErrFailedPrecondition while the process lives. At is the time of this
// look.
func (w *Witness) Exit(ctx context.Context) (Exit, error) {
	if !w.Dead() {
		return Exit{}, fmt.Errorf("process %d has not ended: %w", w.id.Pid, errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := context.WithTimeout(ctx, reapPatience)
	defer cancel()
	for {
		if status, ok := w.status(); ok {
			return w.exit(status, LearntPidfd), nil
		}
		// A hangup tells of the reaping, where the kernel has it.
		if w.poll(0, min(slice(ctx), 10)) || w.reaped() || ctx.Err() != nil {
			break
		}
	}
	if status, ok := w.status(); ok {
		return w.exit(status, LearntPidfd), nil
	}
	if stat, err := readStat(w.id.Pid); err == nil && stat.start == w.id.Start && stat.state == 'Z' {
		return w.exit(unix.WaitStatus(stat.exit), LearntZombie), nil
	}
	if w.doomed {
		return w.exit(unix.WaitStatus(unix.SIGKILL), LearntKilled), nil
	}
	return Exit{At: time.Now(), Pid: w.id.Pid, Status: UnknownStatus, Unknown: true}, nil
}

func (w *Witness) reaped() bool {
	stat, err := readStat(w.id.Pid)
	return errdefs.IsNotFound(err) || (err == nil && stat.start != w.id.Start)
}

// status asks the kernel, which tells from Linux 6.15 on, once the process has
// been reaped.
func (w *Witness) status() (unix.WaitStatus, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := w.info(w.fd, &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	return unix.WaitStatus(info.Exit_code), true
}

func (w *Witness) exit(status unix.WaitStatus, learnt string) Exit {
	e := Exit{At: time.Now(), Pid: w.id.Pid, Learnt: learnt}
	if status.Signaled() {
		e.Signal = int(status.Signal())
		e.Status = 128 + e.Signal
	} else {
		e.Status = status.ExitStatus()
	}
	return e
}
