// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"

	"github.com/quoin-io/quoin/integration/harness"
)

// memoryCgroup is a cgroup of the test's own with a limit, which takes processes in.
type memoryCgroup struct{ dir, limit string }

func newMemoryCgroup(t *testing.T, name string) memoryCgroup {
	t.Helper()
	m := memoryCgroup{filepath.Join("/sys/fs/cgroup/memory", harness.Token()+"-memory-"+name), "memory.limit_in_bytes"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		m = memoryCgroup{filepath.Join("/sys/fs/cgroup", harness.Token()+"-memory-"+name), "memory.max"}
	}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		harness.Eventually(t, "the cgroup is removed", func() string {
			if err := syscall.Rmdir(m.dir); err != nil && err != syscall.ENOENT {
				return err.Error()
			}
			return ""
		})
	})
	return m
}

func (m memoryCgroup) write(t *testing.T, file, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, file), []byte(value), 0); err != nil {
		t.Fatalf("write %s to %s: %v", value, file, err)
	}
}

// oomKills reads how often the kernel killed in the cgroup.
func (m memoryCgroup) oomKills(t *testing.T) int {
	t.Helper()
	file := "memory.oom_control"
	if m.limit == "memory.max" {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(m.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			kills, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Fatal(err)
			}
			return kills
		}
	}
	t.Fatalf("%s has no oom_kill:\n%s", file, text)
	return 0
}

// TestShimUnderPressure: a shim whose memory is limited to a little more than it has
// goes on: its container is asked, run something in, and ended. A runtime that it
// starts may be killed for want of memory; then the exec fails and says so.
func TestShimUnderPressure(t *testing.T) {
	if harness.Reference() {
		return
	}
	harness.OnBoth(t, "press", func(t *testing.T, d *harness.Daemon) {
		runs := d.Run(t, "runs", exitsOnTerm(42))
		runs.Stdout.Await(t, "ready")
		shim := d.Shim(t, "runs").PID
		m := newMemoryCgroup(t, d.Name)
		m.write(t, "cgroup.procs", strconv.Itoa(shim))
		m.write(t, m.limit, strconv.FormatUint(memoryOf(t, shim, "Anonymous")+32<<20, 10))
		for range 5 {
			alive(t, runs)
		}
		if kills := m.oomKills(t); kills > 0 {
			t.Errorf("%d processes were killed", kills)
		}
		runs.Signal(t, syscall.SIGTERM)
		if status := runs.AwaitExit(t); status.ExitCode() != 42 {
			t.Errorf("exit code %d, want 42", status.ExitCode())
		}
		runs.Delete(t)
	})
}

// TestShimKilledForWantOfMemory: the kernel kills the shim itself. It is a shim that
// was killed like any other: the container ends, the status is true or honestly
// unknown, nothing is left, and the id can be used again.
func TestShimKilledForWantOfMemory(t *testing.T) {
	if harness.Reference() {
		return
	}
	harness.OnBoth(t, "oom", func(t *testing.T, d *harness.Daemon) {
		told := listen(t, d, "runs")
		runs := d.Run(t, "runs", exitsOnTerm(42))
		runs.Stdout.Await(t, "ready")
		shim := d.Shim(t, "runs").PID
		init := int(runs.Task.Pid())
		m := newMemoryCgroup(t, d.Name)
		m.write(t, "cgroup.procs", strconv.Itoa(shim))
		m.write(t, m.limit, "65536")
		// What it had stays charged where it was; what it needs now it does not get.
		ctx := runs.Context(t)
		process := runs.Process(t, "true")
		harness.Eventually(t, "the shim is killed", func() string {
			if harness.Gone(shim) {
				return ""
			}
			_, _ = runs.Task.Exec(ctx, "e", process, cio.NullIO) // it may answer or die of it
			return fmt.Sprintf("%d kills", m.oomKills(t))
		})
		if m.oomKills(t) == 0 {
			t.Error("the shim did not die of the limit")
		}
		// Whoever waits learns that the shim is gone; the exit is told by the event.
		if e := told.awaitExit(t, ""); e.status != 137 && e.status != statusUnknown {
			t.Errorf("told: %s, which is neither its kill nor unknown", e)
		}
		harness.Eventually(t, "the container's process is gone", func() string {
			if p, ok := harness.FindProcess(init); ok {
				return p.String()
			}
			return ""
		})
		d.Remove(t, "runs")
		again := d.Run(t, "runs", harness.Container{Args: []string{"sh", "-c", "exit 7"}})
		if status := again.AwaitExit(t); status.ExitCode() != 7 {
			t.Errorf("the next of the id ends with %d", status.ExitCode())
		}
		again.Delete(t)
	})
}
