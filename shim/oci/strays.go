// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// markEnv marks what a call's processes inherit, so that those that have left the
// runtime's process group are still known as the call's. A container's processes
// have the environment of their spec instead, unless the runtime (crun) has not
// executed their program yet.
const markEnv = "QUOIN_RUNTIME_CALL"

func newMark() string { return markEnv + "=" + strconv.FormatUint(rand.Uint64(), 36) }

// killStrays ends what a failed call has left to this process, if it is the
// subreaper: the children that carry the call's mark.
func killStrays(mark string) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		pids, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended; its children are another's now
		}
		for _, field := range bytes.Fields(pids) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				killMarked(pid, mark)
			}
		}
	}
}

// killMarked kills a process that has the mark. The pidfd is opened first: what is
// read after that tells of the same process, or of one that came later and has no
// such mark.
func killMarked(pid int, mark string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return
	}
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		if string(kv) == mark {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it is gone
			return
		}
	}
}
