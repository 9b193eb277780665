// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// keep notes a claimed process, unless the one that has its pid noted is still
// there: the pidfd of one that was reaped takes no signal.
func (r *Reaper) keep(p *Process) bool {
	r.mu.Lock()
	old := r.claimed[p.pid]
	r.mu.Unlock()
	if old != nil && !errdefs.IsNotFound(old.Signal(0)) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claimed[p.pid] != old {
		return false // claimed by another meanwhile
	}
	r.claimed[p.pid] = p
	return true
}

// letGo forgets a process that was reaped.
func (r *Reaper) letGo(p *Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claimed[p.pid] == p {
		delete(r.claimed, p.pid)
	}
}

// KillStranger ends a process that a failed create or exec has left: a child of
// this process that nobody claimed and that is no command's. It tells whether it
// was one. It must be called before the flight of that create or exec ends.
func (f *Flight) KillStranger(pid int) bool {
	r := f.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if pid <= 1 || r.owned[pid] > 0 {
		return false
	}
	// As long as the flight lasts the janitor does not reap it, so that the pid of a
	// child stays its own.
	var info unix.Siginfo
	if unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) != nil {
		return false
	}
	return unix.Kill(pid, unix.SIGKILL) == nil
}
