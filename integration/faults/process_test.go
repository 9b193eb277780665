// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// oneShim returns the process of the shim that was started for a container of a
// daemon.
func oneShim(t *testing.T, d *harness.Daemon, id string) int {
	t.Helper()
	shims := slices.DeleteFunc(harness.Shims(id), func(p harness.Process) bool { return !slices.Contains(p.Args, d.Namespace) })
	if len(shims) != 1 {
		t.Fatalf("shims of %s:\n%s", id, harness.Describe(shims))
	}
	return shims[0].PID
}

// stopProcess stops a process, and returns when it is; at the test's end it goes on.
func stopProcess(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatalf("stop %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // it may have ended
	harness.Eventually(t, "the process is stopped", func() string {
		p, ok := harness.FindProcess(pid)
		if !ok || p.State != "T" {
			return p.String()
		}
		return ""
	})
}

func continueProcess(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatalf("continue %d: %v", pid, err)
	}
}

// fileMissing says why a file is not there, "" when it is.
func fileMissing(path string) string {
	if _, err := os.Stat(path); err != nil {
		return err.Error()
	}
	return ""
}
