// SPDX-License-Identifier: Apache-2.0

package reaping

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestForkStorm: a host-PID container forks as fast as it can up to its limit
// of processes. Every one of them is orphaned, so the shim has to reap all.
func TestForkStorm(t *testing.T) {
	d := quoind(t)
	id := harness.ID(t)
	const limit = 100
	cgroup := "/" + d.Namespace + "/" + id
	// awk goes on when a fork fails; a shell would not. Until one does, the processes
	// live longer and longer: the limit is reached at whatever pace this machine forks.
	r := d.Run(t, id, harness.Container{
		Args: []string{"awk", `BEGIN { s = 0.2; while (1) { if (system("sleep " s " & sleep " s + 0.1 " & sleep " s + 0.2 " &") == 0) s += 0.02; n++; if (n % 100 == 0) { print n; fflush() } } }`},
		Spec: []oci.SpecOpts{hostPID, oci.WithPidsLimit(limit), oci.WithCgroup(cgroup)},
	})
	pids := filepath.Join("/sys/fs/cgroup/pids", cgroup)
	harness.Eventually(t, "forks fail for the limit", func() string {
		events, err := os.ReadFile(filepath.Join(pids, "pids.events"))
		if err != nil {
			return err.Error()
		}
		var refused int
		if _, err := fmt.Sscanf(string(events), "max %d", &refused); err != nil || refused < 50 {
			return fmt.Sprintf("%q, %v", events, err)
		}
		return ""
	})
	r.Stdout.Await(t, "300\n")
	current, err := os.ReadFile(filepath.Join(pids, "pids.current"))
	if err != nil {
		t.Fatal(err)
	}
	var now int
	if _, err := fmt.Sscan(strings.TrimSpace(string(current)), &now); err != nil || now > limit {
		t.Errorf("%d processes, %v; the limit is %d", now, err, limit)
	}
	// Reaping must keep pace: what waits to be reaped counts against the limit.
	if zombies := len(harness.Zombies()); zombies > limit/2 {
		t.Errorf("%d zombies during the storm", zombies)
	}
	r.Signal(t, syscall.SIGKILL)
	if code := r.AwaitExit(t).ExitCode(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	noZombies(t)
	r.Delete(t)
	harness.Leftovers(t, d)
}
