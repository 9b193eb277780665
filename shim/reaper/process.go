// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Exit is how a process ended.
type Exit struct {
	// Status is the exit code, or 128 plus the signal that killed it: what
	// runc's and docker's users know.
	Status int
	// At is the time at which the shim saw the exit.
	At time.Time
	// Signal killed the process; 0 when it exited by itself.
	Signal unix.Signal
	// Unknown says that the process was not a child of this one, so that the
	// kernel told its end but not its status. Status is then 255.
	Unknown bool
}

// unknownStatus stands for "it ended, and the kernel does not tell how".
const unknownStatus = 255

// Process is a claimed process, identified by its pidfd and so never confused
// with a later one of the same pid.
type Process struct {
	pid  int
	file *os.File // the pidfd, in Go's poller
	conn syscall.RawConn
}

// Pid returns the process id in the shim's PID namespace.
func (p *Process) Pid() int { return p.pid }

// Signal sends a signal to exactly this process. It returns ErrNotFound once the
// process is gone.
func (p *Process) Signal(sig unix.Signal) error {
	var serr error
	err := p.conn.Control(func(fd uintptr) {
		serr = unix.PidfdSendSignal(int(fd), sig, nil, 0)
	})
	switch {
	case err != nil, errors.Is(serr, unix.ESRCH):
		// Control fails only after the waiter has closed the pidfd.
		return fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	case errors.Is(serr, unix.EINVAL):
		return fmt.Errorf("send signal %d to process %d: %w: %w", sig, p.pid, serr, errdefs.ErrInvalidArgument)
	case serr != nil:
		return fmt.Errorf("send signal %d to process %d: %w", sig, p.pid, serr)
	}
	return nil
}

// Claim takes the process pid, a child of this one that may be dead already,
// and calls exited once, from a goroutine of its own, when it has ended and has
// been reaped. One that was claimed before, and not reaped since, is
// errdefs.ErrAlreadyExists: whoever named it lies.
func (f *Flight) Claim(pid int, exited func(Exit)) (*Process, error) {
	f.r.own(pid)
	p, err := openProcess(pid)
	if err == nil && !f.r.keep(p) {
		p.file.Close()
		err = fmt.Errorf("process %d belongs to another container: %w", pid, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		f.r.disown(pid, false)
		return nil, err
	}
	go func() {
		e := p.wait()
		f.r.letGo(p)
		f.r.disown(pid, true)
		exited(e)
	}()
	return p, nil
}

// openProcess opens a pidfd whose readiness is waited for in Go's poller, so
// that waiting costs a goroutine and no thread (PIDFD_NONBLOCK: Linux 5.10).
func openProcess(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("wait for process %d: %w", pid, err)
	}
	return &Process{pid: pid, file: file, conn: conn}, nil
}

// ready blocks until the process is dead. It reaps nothing.
func (p *Process) ready() error {
	return p.conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := ignoringEINTR(func() (int, error) { return unix.Poll(fds, 0) })
		return err == nil && n > 0
	})
}

// wait blocks until the process is dead, reaps it and closes its pidfd.
func (p *Process) wait() Exit {
	defer p.file.Close()
	if err := p.ready(); err != nil {
		return Exit{Status: unknownStatus, At: time.Now(), Unknown: true}
	}
	at := time.Now()
	var ws unix.WaitStatus
	// The zombie is ours alone and pins its pid, so that wait4 by pid is exact.
	got, err := ignoringEINTR(func() (int, error) { return unix.Wait4(p.pid, &ws, 0, nil) })
	if err != nil || got != p.pid {
		return Exit{Status: unknownStatus, At: at, Unknown: true}
	}
	if ws.Signaled() {
		return Exit{Status: 128 + int(ws.Signal()), Signal: ws.Signal(), At: at}
	}
	return Exit{Status: ws.ExitStatus(), At: at}
}

// siginfoPid reads si_pid of a SIGCHLD siginfo, which x/sys leaves opaque: three
// ints, then (64-bit: after padding to 8) the pid (asm-generic/siginfo.h).
func siginfoPid(info *unix.Siginfo) int {
	type chld struct {
		_   [3]int32
		_   [(unsafe.Sizeof(uintptr(0)) - 4) / 4]int32
		pid int32
	}
	return int((*chld)(unsafe.Pointer(info)).pid)
}
