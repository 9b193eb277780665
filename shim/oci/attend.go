// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attendance is one run of the runtime's process. The process is reaped under mu:
// until then its pid is pinned, and with it the name of its process group.
type attendance struct {
	children Children
	build    func() *exec.Cmd

	mu       sync.Mutex
	cmd      *exec.Cmd // guarded by mu; nil before it is started
	reaped   bool      // guarded by mu
	unwanted bool      // guarded by mu; what starts now is killed
}

// run starts the process, waits for its end and reaps it. A runtime that fails
// takes its process group along: what it has started was for nothing.
func (a *attendance) run() error {
	cmd := a.build()
	SealDescriptors()
	if a.given() {
		return context.Canceled // nobody waits any more
	}
	if err := a.children.Start(cmd); err != nil {
		return err
	}
	a.mu.Lock()
	a.cmd = cmd
	if a.unwanted {
		a.kill(unix.SIGKILL)
	}
	a.mu.Unlock()

	failed := awaitDeath(cmd.Process.Pid)
	a.mu.Lock()
	defer a.mu.Unlock()
	if failed {
		a.kill(unix.SIGKILL)
	}
	a.reaped = true
	return a.children.Wait(cmd)
}

// given tells whether the run was given up.
func (a *attendance) given() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unwanted
}

// kill signals the process group. The caller holds mu.
func (a *attendance) kill(sig unix.Signal) {
	if a.cmd != nil && !a.reaped {
		_ = unix.Kill(-a.cmd.Process.Pid, sig) // ESRCH: all of it is gone
	}
}

func (a *attendance) signal(sig unix.Signal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unwanted = a.unwanted || sig == unix.SIGKILL
	a.kill(sig)
}

// wait runs the process until it ends, or until ctx has ended: then its group gets
// SIGTERM and, after Deadlines.Terminate, SIGKILL. One that does not die of that
// is left behind with the goroutine that waits for it, which is errUnkillable; left
// is called when it is gone after all.
//
// The kernel sends the death signal when the thread that forked ends, not when the
// process does. Locking the thread for the call would be the usual way out, at the
// price of threads (each takes some 50 KB that are never given back): but Go ends a
// thread only when a goroutine ends that has locked it, and in the shim none does.
func (r *Runtime) wait(ctx context.Context, build func() *exec.Cmd, left func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := &attendance{children: r.cfg.Children, build: build}
	done := make(chan error, 1)
	go func() { done <- a.run() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	for _, step := range []struct {
		signal unix.Signal
		grace  time.Duration
	}{{unix.SIGTERM, r.cfg.Deadlines.Terminate}, {unix.SIGKILL, killGrace}} {
		a.signal(step.signal)
		timer := time.NewTimer(step.grace)
		select {
		case err := <-done:
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
	go func() {
		<-done
		left()
	}()
	return errUnkillable
}

var errUnkillable = errors.New("the runtime was killed and is still not gone")

// awaitDeath blocks until the child is dead, and tells whether it ended badly. It
// does not reap it.
func awaitDeath(pid int) (failed bool) {
	pollDeath(pid)
	var info unix.Siginfo
	for {
		// Most often it is dead by now. Otherwise this blocks a thread, but is right.
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		return info.Code != cldExited || siginfoStatus(&info) != 0
	}
}

// pollDeath waits for the child in Go's poller, so that no thread is blocked. It
// returns early where that cannot be done.
func pollDeath(pid int) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err != nil && err != syscall.EINTR
	})
}

// cldExited is si_code of a child that called exit (asm-generic/siginfo.h).
const cldExited = 1

// siginfoStatus reads si_status of a SIGCHLD siginfo, which x/sys leaves opaque:
// three ints, then (64-bit: after padding to 8) pid, uid and status.
func siginfoStatus(info *unix.Siginfo) int {
	type chld struct {
		_      [3]int32
		_      [(unsafe.Sizeof(uintptr(0)) - 4) / 4]int32
		_      [2]int32
		status int32
	}
	return int((*chld)(unsafe.Pointer(info)).status)
}
