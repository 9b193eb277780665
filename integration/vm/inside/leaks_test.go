// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

// cycles is how often a container is made and killed: less in the beds whose
// point is another.
func cycles() int {
	if bed == "v2" {
		return 200
	}
	return 40
}

// TestLeaks: containers that come and go leave no cgroup, no unit, no process
// and no mount, also when they share the host's processes and leave some
// behind.
func TestLeaks(t *testing.T) {
	logOnFailure(t)
	before := surroundings(t)
	begun := time.Now()
	var workers sync.WaitGroup
	for worker := range 4 {
		workers.Go(func() {
			for n := worker; n < cycles() && !t.Failed(); n += 4 {
				if err := cycle(t.Context(), n); err != nil {
					t.Errorf("cycle %d: %v", n, err)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d cycles in %v", cycles(), time.Since(begun).Round(time.Second))
	eventually(t, "nothing is left", func() string {
		var left []string
		for _, thing := range surroundings(t) {
			if !slices.Contains(before, thing) {
				left = append(left, thing)
			}
		}
		return strings.Join(left, "\n")
	})
}

// variants are the kinds of container that cycles take turns with: both shapes
// of path, with process namespaces of their own and without.
var variants = []struct {
	path string
	args []string
	host bool
}{
	{path: "system.slice:leak:", args: []string{"sleep", "1000"}},
	{path: "/leaks/", args: []string{"sleep", "1000"}},
	{path: "system.slice:leak:", args: leaving, host: true},
	{path: "/leaks/", args: leaving, host: true},
}

// leaving starts processes that outlive their parent and its session.
var leaving = []string{"sh", "-c", "setsid sleep 1001 & setsid sh -c 'sleep 1002; :' & sleep 1000"}

func hostPID() oci.SpecOpts { return oci.WithHostNamespace(specs.PIDNamespace) }

// surroundings lists the cgroups, units, mounts and processes of containers.
func surroundings(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, root := range []string{"/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/leaks", "/sys/fs/cgroup/pids/leaks", "/sys/fs/cgroup/pids/system.slice"} {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && path != root && strings.Contains(filepath.Base(path), "leak") {
				found = append(found, "cgroup "+path)
			}
			return nil // what vanishes meanwhile is not left
		})
	}
	if bed != "bare" {
		out, err := exec.Command("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--type=scope,slice").Output()
		if err != nil {
			t.Fatalf("list the units: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			if fields := strings.Fields(line); len(fields) > 0 {
				found = append(found, "unit "+fields[0])
			}
		}
	}
	for _, p := range harness.Processes() {
		if strings.HasPrefix(strings.Join(p.Args, " "), "sleep 100") || strings.Contains(p.Name, "containerd-shim") {
			found = append(found, "process "+p.String())
		}
	}
	mounts, err := filepath.Glob("/run/quoind/io.containerd.runtime.v2.task/" + namespace + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if strings.HasPrefix(filepath.Base(m), ".") {
			continue // what the shims have learnt of OCI runtimes, one file each
		}
		found = append(found, "bundle "+m)
	}
	return found
}
