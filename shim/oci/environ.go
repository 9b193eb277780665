// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"math"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// strippedEnv are variables that systemd sets for one process and that mean
// something to a runtime: runc would announce the container's readiness to the
// shim's manager, and pass on sockets that are not there.
var strippedEnv = []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"}

// environ is the shim's environment for a runtime.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(strippedEnv, name)
	})
}

// SealDescriptors marks all descriptors but the standard three close-on-exec. Go
// opens its own so; what the shim inherited, or a library opened otherwise, must
// not reach the runtime either (CVE-2024-21626 began with such a one). Descriptors
// that a child is meant to get are passed by os/exec, which this does not touch.
func SealDescriptors() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	// Before Linux 5.11 there is no CLOSE_RANGE_CLOEXEC.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // no /proc: Go's own flags are what is left
	}
	for _, e := range entries {
		if fd, ok := parseFD(e.Name()); ok && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

func parseFD(s string) (int, bool) {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' || n > math.MaxInt32/10-1 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != ""
}
