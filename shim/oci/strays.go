// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// markEnv marks what a call's processes inherit, so that those that have left the
// runtime's process group are still known as the call's. A container's processes
// have the environment of their spec instead, unless the runtime (crun) has not
// executed their program yet.
const markEnv = "QUOIN_RUNTIME_CALL"

func newMark() string { return markEnv + "=" + strconv.FormatUint(rand.Uint64(), 36) }

// strayPatience bounds the wait for one process, to be executed or to be dead.
const strayPatience = time.Second

// killStrays ends what a failed call has left to this process, if it is the
// subreaper: the children that carry the call's mark, and in turn what they leave.
func killStrays(mark string) {
	// A process that has ended has handed its children on, maybe after they were
	// looked for: so as long as there are newly dead ones, once more.
	dead := map[child]bool{}
	end := time.Now().Add(2 * strayPatience) // where others' children die all the time
	for again := true; again && time.Now().Before(end); {
		again = false
		for _, pid := range children() {
			p, err := readProcess(pid)
			if err != nil {
				again = true // it has been reaped since
				continue
			}
			if id := p.child; !dead[id] && p.end(mark) {
				dead[id], again = true, true
			}
		}
	}
}

// children of this process, of whatever thread.
func children() (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended; its children are another's now
		}
		for field := range bytes.FieldsSeq(data) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// child is one of all that have, had or will have its pid.
type child struct {
	pid   int
	start uint64 // clock ticks since the boot
}

// processState is what /proc/<pid>/stat says of a process.
type processState struct {
	child
	dead, exiting bool
	// loaded is false in the middle of execve: the new memory is there, and the
	// program and its environment not yet in it.
	loaded bool
	// environ is where in its memory its environment begins, another place in each
	// program that it executes (the kernel chooses by chance).
	environ uint64
}

// readProcess reads /proc/<pid>/stat (proc(5)).
func readProcess(pid int) (processState, error) {
	p := processState{child: child{pid: pid}}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, err
	}
	// From field 3 on; the name before it may hold any byte.
	const state, flags, start, data, environ = 0, 6, 19, 42, 47
	const pfExiting = 0x4 // PF_EXITING, include/linux/sched.h
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= environ {
		return p, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var numbers [4]uint64
	for i, field := range [...]int{flags, start, data, environ} {
		if numbers[i], err = strconv.ParseUint(string(fields[field]), 10, 64); err != nil {
			return p, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	p.dead = fields[state][0] == 'Z' || fields[state][0] == 'X'
	p.exiting, p.start = numbers[0]&pfExiting != 0, numbers[1]
	// Where the program's data begin is the last that execve fills in, after the
	// environment (fs/binfmt_elf.c, load_elf_binary).
	p.loaded, p.environ = numbers[2] != 0, numbers[3]
	return p, nil
}

// end kills the process if it has the mark, and tells whether it is dead, of
// whatever. The pidfd is opened before it is looked at: what that tells is of the
// same process.
func (p processState) end(mark string) (dead bool) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	if p.carries(mark) {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it is gone
	} else if now, err := readProcess(p.pid); err == nil && !now.dead && !now.exiting {
		return false
	}
	deadline := time.Now().Add(strayPatience)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

// carries tells whether the process has the mark in its environment; a dead one has
// none.
//
// In the middle of execve, which is just where a process is that a runtime has
// started at its end, the environment is empty for a moment, and one that is being
// read ends early.
func (p processState) carries(mark string) bool {
	// A sleep, for the kernel tells nobody but a tracer that an execve is done.
	for end := time.Now().Add(strayPatience); ; time.Sleep(time.Millisecond) {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err != nil {
			return false
		}
		for kv := range bytes.SplitSeq(environ, []byte{0}) {
			if string(kv) == mark {
				return true
			}
		}
		// It has not, if what was read is all of one program's.
		before := p
		if p, err = readProcess(p.pid); err != nil || p.dead || p.exiting || before.loaded && p.environ == before.environ || time.Now().After(end) {
			return false
		}
	}
}
