// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Park stops all reaping of claimed processes and of strangers, and returns when
// every exit that was taken has been delivered. What dies from then on stays a
// zombie, which the image that this process executes, or Unpark, goes on with. It
// is errdefs.ErrUnavailable, and everything goes on, when ctx ends first.
func (r *Reaper) Park(ctx context.Context) error { return r.gate.close(ctx) }

// Unpark goes on reaping; also after Resume.
func (r *Reaper) Unpark() { r.gate.open() }

// Resume is New for an image that goes on with the children of an earlier one, or
// of a process that has died. It reaps nothing before Unpark. Counts begin at zero.
func Resume() (*Reaper, error) {
	return start(func(r *Reaper) { r.gate.shut = make(chan struct{}) })
}

// Pidfd is the descriptor of a process that has not been reaped; false if it has.
func (p *Process) Pidfd() (fd int, ok bool) {
	if p.conn == nil {
		return -1, false
	}
	err := p.conn.Control(func(n uintptr) { fd = int(n) })
	return fd, err == nil
}

// Ended is a process that was claimed and has been reaped.
func Ended(pid int) *Process { return &Process{pid: pid} }

// Reclaim is Claim for a process that an earlier image has claimed, or another
// process. pidfd is its descriptor, and the Process's from now on. The process may be
// dead, and need not be a child: then its exit is what the kernel tells strangers.
func (r *Reaper) Reclaim(pid int, pidfd *os.File, exited func(Exit)) (*Process, error) {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("wait for process %d: %w", pid, err)
	}
	p := &Process{pid: pid, file: pidfd, conn: conn}
	r.own(pid)
	if err := r.claim(p, exited); err != nil {
		r.disown(pid, false)
		return nil, err
	}
	return p, nil
}

// Adopt takes over a program that somebody waits for by its pidfd, which stays
// theirs; see stdio.Adopter. A program that has ended and is reaped already is
// reported by wait.
func (r *Reaper) Adopt(pid int, pidfd *os.File) (wait func() error, err error) {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("adopt process %d: %w", pid, err)
	}
	p := &Process{pid: pid, conn: conn}
	r.own(pid)
	return func() error {
		defer r.disown(pid, false)
		return p.reap(time.Now()).err()
	}, nil
}

// err is what exec.Cmd.Wait would say.
func (e Exit) err() error {
	switch {
	case e.Unknown:
		return errors.New("it was not a child of the shim: how it ended is not known")
	case e.Signal != 0:
		return fmt.Errorf("signal: %v", e.Signal)
	case e.Status != 0:
		return fmt.Errorf("exit status %d", e.Status)
	}
	return nil
}

// told asks the kernel how a process ended that is not a child of this one, and
// that has. A zombie shows it in /proc until its parent reaps it; from then on its
// pidfd does (PIDFD_INFO_EXIT, Linux 6.15).
func (p *Process) told(fd int) (status unix.WaitStatus, ok bool) {
	for range 2 { // it may be reaped in between
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return unix.WaitStatus(info.Exit_code), true
		}
		if status, ok := zombieStatus(p.pid); ok && unix.PidfdSendSignal(fd, 0, nil, 0) == nil {
			return status, true // the pid was its own all the time
		}
	}
	return 0, false
}

// Fields of /proc/<pid>/stat after the name, which may hold anything (proc(5)).
const (
	statState    = 0
	statExitCode = 49
)

func zombieStatus(pid int) (unix.WaitStatus, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= statExitCode || string(fields[statState]) != "Z" {
		return 0, false
	}
	code, err := strconv.ParseUint(string(fields[statExitCode]), 10, 32)
	return unix.WaitStatus(code), err == nil
}

// exitOf translates a status as wait4 has it.
func exitOf(ws unix.WaitStatus, at time.Time) Exit {
	if ws.Signaled() {
		return Exit{Status: 128 + int(ws.Signal()), Signal: ws.Signal(), At: at}
	}
	return Exit{Status: ws.ExitStatus(), At: at}
}
