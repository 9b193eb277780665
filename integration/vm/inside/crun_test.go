// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// crun is the other OCI runtime of the machine, Debian's.
	crun = "crun"
	// crunGroup is where it puts a container within its scope, with the limits, which
	// so are none of systemd's business.
	crunGroup = "container"
)

// by is where an OCI runtime puts a container of that placement.
func (p placement) by(binary string) string {
	if binary == crun && strings.HasSuffix(p.cgroup, ".scope") {
		return p.cgroup + "/" + crunGroup
	}
	return p.cgroup
}

// binaries are the OCI runtimes that a bed can run: "" is the node's, runc. crun
// 1.8 refuses cgroup v1 beside a cgroup2 mount.
func binaries() []string {
	if onV1() {
		return []string{""}
	}
	return []string{"", crun}
}

// TestCrun: a container of crun's is where the form of its path says, runs, pauses
// and ends there, and leaves nothing.
func TestCrun(t *testing.T) {
	for name, place := range placements("crun") {
		t.Run(name, func(t *testing.T) {
			logOnFailure(t)
			c := startBy(t, crun, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup(place.path), withResources(&specs.LinuxResources{
				Memory:  &specs.LinuxMemory{Limit: ref(int64(64 * mib)), Swap: ref(int64(64 * mib))},
				Unified: map[string]string{"memory.oom.group": "1"},
			}))
			checkPlace(t, "the container", c.pid(), place.by(crun))
			if got := c.shell(t, "cat /proc/1/comm"); got != "sleep" {
				t.Errorf("process 1 is %q", got)
			}
			ctx := inNamespace(t)
			want := limits{"memory.max": fmt.Sprint(64 * mib), "memory.swap.max": "0", "memory.oom.group": "1"}
			want.check(t, "at the start", place.by(crun))
			want.survive(t, "after daemon-reload", place.by(crun))
			swap := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ref(int64(64 * mib)), Swap: ref(int64(96 * mib))}}
			if err := c.task.Update(ctx, containerd.WithResources(swap)); err != nil {
				t.Fatal(err)
			}
			want["memory.swap.max"] = fmt.Sprint(32 * mib)
			want.survive(t, "updated, after daemon-reload", place.by(crun))
			if place.by(crun) != place.cgroup {
				limits{"memory.swap.max": "max"}.check(t, "the scope around it", place.cgroup)
			}
			if err := c.task.Pause(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.task.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.task.Kill(ctx, syscall.SIGTERM); err != nil { // of no effect on a process 1 without a handler
				t.Fatal(err)
			}
			if code := c.kill(t); code != 137 {
				t.Errorf("exit code %d", code)
			}
			remove(t, c.ID())
			eventually(t, "the cgroup is gone", func() string {
				if !gone(place.cgroup) {
					return place.cgroup
				}
				return ""
			})
		})
	}
}
