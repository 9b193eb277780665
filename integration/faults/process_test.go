// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

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

// memoryOf is what a process has in memory, in bytes: the sum over its mappings of
// a field of proc_pid_smaps(5).
func memoryOf(t *testing.T, pid int, field string) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb uint64
		if _, err := fmt.Sscanf(line, field+": %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatalf("process %d has no %s:\n%s", pid, field, text)
	return 0
}

// fileMissing says why a file is not there, "" when it is.
func fileMissing(path string) string {
	if _, err := os.Stat(path); err != nil {
		return err.Error()
	}
	return ""
}
