// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"slices"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// withoutCPU leaves out the weight that `run` asks for by itself: the cgroup2 of
// a hybrid machine has no controller of it.
const withoutCPU = "--cpu-shares 0"

// TestContainer: a quoind in a container works, and all that it runs is in the
// container's cgroup, goes with it, and leaves nothing.
func TestContainer(t *testing.T) {
	for _, tc := range []struct {
		name, prepare, mode, own string
		bed                      harness.Bed
		outer                    harness.Kind
		flags                    string
		command                  func(*Place, string) []string
	}{
		{name: "v1", outer: harness.KindQuoind, mode: "legacy", own: "/", command: (*Place).Alone},
		{
			name: "hybrid", outer: harness.KindStock, mode: "hybrid", own: "/", command: (*Place).Run,
			prepare: "mkdir /sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
		},
		{name: "v2", outer: harness.KindQuoind, bed: harness.CgroupV2, mode: "unified", own: "/init", flags: withoutCPU, command: (*Place).Run},
		{name: "v2-alone", outer: harness.KindStock, bed: harness.CgroupV2, mode: "unified", own: "/init", flags: withoutCPU, command: (*Place).Alone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := harness.Start(t, harness.Spec{Name: "outer-" + tc.name, Kind: tc.outer, Bed: tc.bed})
			p := newPlace(t, tc.name, 0, "")
			outer := d.Run(t, harness.ID(t), harness.Container{Args: tc.command(p, tc.prepare), Spec: p.Container()})
			i := p.Connect(t, int(outer.Task.Pid()))
			b := Bounds{Base: "/" + d.Namespace + "/" + outer.ID(), Flags: tc.flags, NoPods: tc.bed == harness.CgroupV2}

			if e := i.Driver(t); e["driver"] != "cgroupfs" || e["mode"] != tc.mode || e["cgroup"] != tc.own || e["delegated"] != "true" {
				t.Errorf("the plugin exports %v", e)
			}
			if got := i.CgroupDriver(t); got != cri.CgroupDriver_CGROUPFS {
				t.Errorf("RuntimeConfig says %v", got)
			}
			i.Containers(t, b)
			if tc.mode == "unified" {
				checkHandedOn(t, i)
			}
			checkEntered(t, i, outer, b)

			i.Start(t, b, "left", "4330")
			if !b.NoPods {
				i.RunPod(t, b, "p2")
			}
			harness.Eventually(t, "process 1 reaps shims", func() string {
				return harness.Describe(slices.DeleteFunc(i.Processes(), func(p harness.Process) bool { return p.State != "Z" }))
			})
			processes := i.Processes()
			outer.Signal(t, syscall.SIGKILL)
			if code := outer.AwaitExit(t).ExitCode(); code != 128+uint32(syscall.SIGKILL) {
				t.Errorf("the outer container exits with %d", code)
			}
			outer.Delete(t)
			for _, p := range processes {
				if !harness.Gone(p.PID) {
					t.Errorf("left: %s", p)
				}
			}
			harness.Leftovers(t, d)
		})
	}
}

// checkHandedOn: the root of the cgroup namespace gives its controllers to the
// containers, for which it must have no process.
func checkHandedOn(t *testing.T, i *Inner) {
	t.Helper()
	const top = "/sys/fs/cgroup/"
	if got := i.Shell(t, "cat "+top+"cgroup.procs"); got != "" {
		t.Errorf("processes in the root of the cgroup namespace: %s", got)
	}
	have, given := i.Shell(t, "cat "+top+"cgroup.controllers"), i.Shell(t, "cat "+top+"cgroup.subtree_control")
	if have == "" || have != given {
		t.Errorf("the root has %q and gives %q", have, given)
	}
}

// checkEntered: the outer container can still be entered, paused and resumed.
func checkEntered(t *testing.T, i *Inner, outer *harness.Running, b Bounds) {
	t.Helper()
	ctx := outer.Context(t)
	process, err := outer.Task.Exec(ctx, "look", &specs.Process{Args: []string{"sleep", "4340"}, Cwd: "/", Env: []string{"PATH=/bin"}}, cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(ctx); err != nil {
		t.Fatalf("enter the outer container: %v", err)
	}
	exit, err := process.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	have, err := memberships(int(process.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, path := range have {
		found = found || below(path, b.Base)
	}
	if !found {
		t.Errorf("what entered the outer container is not in its cgroup: %v", have)
	}
	if err := outer.Task.Pause(ctx); err != nil {
		t.Errorf("pause the outer container: %v", err)
	}
	if err := outer.Task.Resume(ctx); err != nil {
		t.Errorf("resume the outer container: %v", err)
	}
	if err := process.Kill(ctx, syscall.SIGKILL); err != nil {
		t.Errorf("kill what entered: %v", err)
	}
	harness.AwaitExit(t, "what entered", exit)
	if _, err := process.Delete(ctx); err != nil {
		t.Errorf("delete what entered: %v", err)
	}
	i.CheckContained(t, b.Base)
}
