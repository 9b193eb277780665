// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// janitor reaps strangers until Close. SIGCHLD coalesces, so that one look
// takes all there is; each owner pokes it after taking its own child, since
// waitid(P_ALL) shows the first zombie only.
func (r *Reaper) janitor(chld chan os.Signal) {
	defer close(r.done)
	defer signal.Stop(chld)
	var held int
	for {
		select {
		case <-chld:
		case <-r.poke:
		case <-r.stop:
			return
		}
		r.gate.enter()
		for again := true; again; {
			held, again = r.sweep(held)
		}
		r.gate.leave()
	}
}

// sweep reaps what it may and says whether looking again at once is worth it. It
// returns the zombie that was first in line and not for it, and takes the one of
// the last sweep.
func (r *Reaper) sweep(before int) (held int, again bool) {
	first, ok := peek(unix.P_ALL, 0)
	if !ok {
		r.forget(nil)
		return 0, false
	}
	if r.release(first) {
		r.collect(first)
		return 0, true
	}
	// The first zombie is somebody's. Most often that is an OCI runtime whose
	// owner is about to take it and pokes the janitor then; only one that is still
	// there at the next look is worth the listing.
	if first != before && r.isOwned(first) {
		return first, false
	}
	// The zombies behind it are seen in the kernel's list of children
	// (CONFIG_PROC_CHILDREN, on wherever CRIU is). A kernel without it delays
	// strangers until the first zombie's owner is done.
	dead := make(map[int]struct{})
	for _, pid := range children() {
		if _, zombie := peek(unix.P_PID, pid); !zombie {
			continue
		}
		dead[pid] = struct{}{}
		if pid != first && r.release(pid) {
			r.collect(pid)
			again = true
		}
	}
	r.forget(dead)
	return first, again
}

func (r *Reaper) isOwned(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owned[pid] > 0
}

// release says whether the dead child pid is a stranger that no flight can
// claim any more. The first look notes the flights that it has to outlast.
func (r *Reaper) release(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owned[pid] > 0 {
		return false
	}
	waits, seen := r.strangers[pid]
	if !seen {
		waits = maps.Clone(r.flights)
		r.strangers[pid] = waits
	}
	return len(waits) == 0
}

// collect reaps the zombie pid, which release has given free: nobody else waits
// for it, so the pid cannot have changed hands since.
func (r *Reaper) collect(pid int) {
	var ws unix.WaitStatus
	got, err := ignoringEINTR(func() (int, error) { return unix.Wait4(pid, &ws, unix.WNOHANG, nil) })
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.strangers, pid)
	if err == nil && got == pid {
		r.stats.Strangers++
	}
}

// forget drops notes about strangers that are not in dead: their zombies were
// taken by a claim.
func (r *Reaper) forget(dead map[int]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.strangers, func(pid int, _ map[*Flight]struct{}) bool {
		_, still := dead[pid]
		return !still
	})
}

// peek looks at a dead child without taking its exit. ok is false when there is
// none.
func peek(idType, id int) (pid int, ok bool) {
	var info unix.Siginfo
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	})
	if err != nil {
		return 0, false
	}
	pid = siginfoPid(&info)
	return pid, pid != 0
}

// children lists this process's children, dead ones included; a subreaper's
// adopted children may hang on any of its threads.
func children() []int {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended; its children are another's now
		}
		for _, s := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Orphans counts the adopted children that nobody waits for: strangers that are
// alive, or dead and not reaped yet.
func (r *Reaper) Orphans() int {
	all := children()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, pid := range all {
		if r.owned[pid] == 0 {
			n++
		}
	}
	return n
}

func ignoringEINTR[T any](f func() (T, error)) (T, error) {
	for {
		v, err := f()
		if err != unix.EINTR {
			return v, err
		}
	}
}
