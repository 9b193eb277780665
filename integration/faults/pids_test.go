// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// pidMax limits the pids of the PID namespace of whoever opens it; see ownPidMax.
const pidMax = "/proc/sys/kernel/pid_max"

// ownPidMax says whether each PID namespace has a limit of its own, as since Linux
// 6.14. Before, there is only the machine's.
func ownPidMax(t *testing.T) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &major, &minor); err != nil {
		t.Fatalf("the kernel's release %q: %v", release, err)
	}
	return major > 6 || major == 6 && minor >= 14
}

// lowerPidMax leaves so many pids beyond the highest in use; the returned function
// undoes it.
func lowerPidMax(t *testing.T, room int) (undo func()) {
	t.Helper()
	before, err := os.ReadFile(pidMax)
	if err != nil {
		t.Fatal(err)
	}
	highest := 300 // the kernel's least
	for _, p := range harness.Processes() {
		highest = max(highest, p.PID)
	}
	if err := os.WriteFile(pidMax, []byte(strconv.Itoa(highest+room)), 0); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(pidMax)
	if err != nil || strings.TrimSpace(string(now)) != strconv.Itoa(highest+room) {
		t.Fatalf("pid_max is %s, %v", now, err)
	}
	return func() {
		if err := os.WriteFile(pidMax, before, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// churn uses pids up as fast as it can, until it is told to end.
func churn(t *testing.T) (end func()) {
	t.Helper()
	// A shell forks for each subshell.
	cmd := exec.Command("sh", "-c", "while :; do (:); done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
}

// TestReusedPids: while pids come round within a fraction of a second, each exit is
// told for the process that it was, with its own code, and signals hit nobody else.
func TestReusedPids(t *testing.T) {
	if harness.Reference() {
		return // its pid reuse is a known weakness
	}
	if !ownPidMax(t) {
		t.Skip("before Linux 6.14 the limit is the machine's, and whoever else runs there would feel it")
	}
	// Not in parallel: the limit is that of the whole package.
	for _, spec := range harness.Both() {
		t.Run(string(spec.Kind), func(t *testing.T) {
			spec.Name = "pids-" + string(spec.Kind)
			d := harness.Start(t, spec)
			d.Busybox(t)
			bystander := d.Run(t, "bystander", exitsOnTerm(42))
			bystander.Stdout.Await(t, "ready")
			undo := lowerPidMax(t, 400)
			defer undo()
			end := churn(t)
			defer end()
			var wg sync.WaitGroup
			for worker := range 2 {
				wg.Go(func() {
					for i := range 12 {
						code := 1 + (worker*12+i)*7%250
						id := fmt.Sprintf("w%d-%d", worker, i)
						r := d.Run(t, id, harness.Container{Args: []string{"sh", "-c", fmt.Sprintf("exit %d", code)}})
						if status := r.AwaitExit(t); int(status.ExitCode()) != code {
							t.Errorf("%s ends with %d, want %d", id, status.ExitCode(), code)
						}
						// It is dead, and its pid is somebody else's by now.
						if err := r.Task.Kill(r.Context(t), syscall.SIGKILL); err == nil {
							t.Errorf("%s took a signal after its end", id)
						}
						r.Delete(t)
					}
				})
			}
			wg.Wait()
			alive(t, bystander)
			bystander.Signal(t, syscall.SIGTERM)
			if status := bystander.AwaitExit(t); status.ExitCode() != 42 {
				t.Errorf("the bystander ends with %d", status.ExitCode())
			}
			bystander.Delete(t)
		})
	}
}
