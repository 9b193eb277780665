// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestHostEnds: what systemd does at the end of the host's run. It stops the daemon,
// the containers and the shims, all at once. A container that takes its time is
// waited for by its shim, which keeps what it says at its end; and nobody waits for a
// shim whose container has ended, until systemd has to kill it.
func TestHostEnds(t *testing.T) {
	logOnFailure(t)
	dir := t.TempDir()
	said := func(name string) string { return filepath.Join(dir, name) }
	// run returns what a container is in, and the scope of its shim.
	pids := map[string]int{}
	run := func(name, cgroup, ending, stop string) (unit, shim string) {
		container := id(t, name)
		t.Cleanup(func() { remove(t, container) })
		quoinctl(t, "--namespace", namespace, "run", "--detach", "--cgroup", cgroup, "--log-uri", "file://"+said(name), busyboxRef, container,
			"sh", "-c", "trap '"+ending+"; exit 5' TERM; echo ready; while :; do sleep 1; done")
		eventually(t, container+" is ready", func() string {
			if text, err := os.ReadFile(said(name)); err != nil || string(text) != "ready\n" {
				return strconv.Quote(string(text))
			}
			return ""
		})
		pid := taskPID(t, namespace, container)
		process, ok := harness.FindProcess(pid)
		if !ok {
			t.Fatalf("%s is gone", container)
		}
		pids[name], pids["the shim of "+name] = pid, process.Parent
		shim = path.Base(cgroupOf(t, process.Parent))
		if got := systemctl(t, "show", "--property=TimeoutStopUSec", "--value", shim); got != stop {
			t.Errorf("systemd gives the shim of %s, in %s, %s to end, want %s", name, shim, got, stop)
		}
		return path.Base(cgroupOf(t, pid)), shim
	}
	// Of one that systemd does not know of, it has not told the end either.
	run("unknown", "/hostends/unknown", "echo", "10s")
	delete(pids, "unknown")
	delete(pids, "the shim of unknown")
	quick, quickShim := run("quick", "system.slice:hostends:quick", "echo bye", "1min 35s")
	slow, slowShim := run("slow", "system.slice:hostends:slow", "sleep 15; echo bye", "1min 35s")
	t.Cleanup(func() {
		ctx, cancel := after()
		defer cancel()
		if err := daemon.start(ctx); err != nil {
			t.Error(err)
		}
		if err := awaitServing(ctx); err != nil {
			t.Error(err)
		}
	})
	systemctl(t, "stop", "quoind.service", quick, quickShim, slow, slowShim)
	// A process leaves its cgroup, which systemd waits for, a moment before it is gone.
	for what, pid := range pids {
		eventually(t, what+" is gone", func() string {
			if alive(pid) {
				return fmt.Sprintf("process %d is there", pid)
			}
			return ""
		})
	}
	for _, name := range []string{"quick", "slow"} {
		// On its other stream the shell may say, before or after, that systemd has ended
		// its sleep.
		if text, err := os.ReadFile(said(name)); err != nil || !strings.Contains(string(text), "\nbye\n") {
			t.Errorf("the log of %s holds %q, %v", name, text, err)
		}
	}
	for _, shim := range []string{quickShim, slowShim} {
		text, err := journal(shim)
		if err != nil || !strings.Contains(text, "Stopped") || strings.Contains(text, "timed out") || strings.Contains(text, "Killing") {
			t.Errorf("the journal of %s: %v\n%s", shim, err, text)
		}
	}
}
