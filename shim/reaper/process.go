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
	file *os.File        // the pidfd, in Go's poller; nil if it is another's
	conn syscall.RawConn // of the pidfd; nil once the process is known to be gone
}

// Pid returns the process id in the shim's PID namespace.
func (p *Process) Pid() int { return p.pid }

// Signal sends a signal to exactly this process. It returns ErrNotFound once the
// process is gone.
func (p *Process) Signal(sig unix.Signal) error {
	if p.conn == nil {
		return fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	}
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
	if err == nil {
		if err = f.r.claim(p, exited); err != nil {
			p.file.Close()
		}
	}
	if err != nil {
		f.r.disown(pid, false)
		return nil, err
	}
	return p, nil
}

// claim has exited called once p has ended and was reaped.
func (r *Reaper) claim(p *Process, exited func(Exit)) error {
	if !r.keep(p) {
		return fmt.Errorf("process %d belongs to another container: %w", p.pid, errdefs.ErrAlreadyExists)
	}
	go func() {
		err := p.ready()
		r.gate.enter()
		defer r.gate.leave()
		e := Exit{Status: unknownStatus, At: time.Now(), Unknown: true}
		if err == nil {
			e = p.reap(e.At)
		}
		p.file.Close()
		r.letGo(p)
		r.disown(p.pid, true)
		exited(e)
	}()
	return nil
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

// reap takes the exit of a process that is dead. By its pidfd that is exact: of what
// is no child of this process it takes nothing.
func (p *Process) reap(at time.Time) Exit {
	exit := Exit{Status: unknownStatus, At: at, Unknown: true}
	err := p.conn.Control(func(fd uintptr) {
		var info unix.Siginfo
		_, err := ignoringEINTR(func() (int, error) {
			return 0, unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED, nil)
		})
		if err == nil {
			exit = exitOf(waitStatus(&info), at)
		} else if ws, ok := p.told(int(fd)); ok {
			exit = exitOf(ws, at)
		}
	})
	if err != nil {
		return Exit{Status: unknownStatus, At: at, Unknown: true}
	}
	return exit
}

// chld is a SIGCHLD siginfo, which x/sys leaves opaque: three ints, then (64-bit:
// after padding to 8) the rest (asm-generic/siginfo.h).
type chld struct {
	_      [2]int32
	code   int32
	_      [(unsafe.Sizeof(uintptr(0)) - 4) / 4]int32
	pid    int32
	_      uint32 // uid
	status int32
}

// exitedCode is si_code of a process that exited by itself (CLD_EXITED).
const exitedCode = 1

func siginfoPid(info *unix.Siginfo) int { return int((*chld)(unsafe.Pointer(info)).pid) }

// waitStatus makes of a siginfo what wait4 would have said.
func waitStatus(info *unix.Siginfo) unix.WaitStatus {
	c := (*chld)(unsafe.Pointer(info))
	if c.code == exitedCode {
		return unix.WaitStatus(c.status&0xff) << 8
	}
	return unix.WaitStatus(c.status & 0x7f)
}
