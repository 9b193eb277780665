// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestMetrics: the statistics of the bed's cgroups, by the names that ctr gives
// them.
func TestMetrics(t *testing.T) {
	logOnFailure(t)
	c := start(t, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup(nodePlacement("metrics").path),
		withResources(&specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: ref(int64(64 * mib))},
			Pids:   &specs.LinuxPids{Limit: ref(int64(50))},
		}))
	found := map[string]string{}
	for line := range strings.Lines(quoinctl(t, "tasks", "metrics", c.ID())) {
		if fields := strings.Fields(line); len(fields) == 2 {
			found[fields[0]] = fields[1]
		}
	}
	limit, used := "memory.usage_limit", []string{"memory.usage", "cpu.usage_usec"}
	if onV1() {
		limit, used = "memory.limit_in_bytes", []string{"memory.usage_in_bytes", "cpuacct.usage"}
	}
	for name, want := range map[string]string{"pids.current": "1", "pids.limit": "50", limit: fmt.Sprint(64 * mib)} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	for _, name := range used {
		if found[name] == "" || found[name] == "0" {
			t.Errorf("%s is %q", name, found[name])
		}
	}
}
