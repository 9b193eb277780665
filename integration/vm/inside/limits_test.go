// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"cmp"
	"context"
	"fmt"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestLimits: what is set is there, changes while the container runs, up and
// down, and is still there after systemd has read its units again.
func TestLimits(t *testing.T) {
	for _, binary := range binaries() {
		for name, place := range placements("limits" + binary) {
			t.Run(name+"/"+cmp.Or(binary, "runc"), func(t *testing.T) { testLimits(t, binary, place) })
		}
	}
}

func testLimits(t *testing.T, binary string, place placement) {
	logOnFailure(t)
	major, minor := disk(t)
	cgroup := place.by(binary)
	c := startBy(t, binary, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup(place.path), withResources(resources(major, minor, 1)))
	checkPlace(t, "the container", c.pid(), cgroup)
	filesOf(major, minor, 1).check(t, "at the start", cgroup)
	for _, scale := range []int64{2, 1} {
		if err := c.task.Update(inNamespace(t), containerd.WithResources(resources(major, minor, scale))); err != nil {
			t.Fatalf("update to scale %d: %v", scale, err)
		}
		filesOf(major, minor, scale).check(t, fmt.Sprintf("updated to scale %d", scale), cgroup)
		filesOf(major, minor, scale).survive(t, fmt.Sprintf("after daemon-reload at scale %d", scale), cgroup)
	}
}

// TestDevices: which devices a container may open does not change when systemd
// reads its units again.
func TestDevices(t *testing.T) {
	logOnFailure(t)
	major, minor := disk(t)
	var st syscall.Stat_t
	if err := syscall.Stat("/dev/hwrng", &st); err != nil {
		t.Fatal(err)
	}
	allow := func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: "c", Major: ref(int64(unix.Major(st.Rdev))), Minor: ref(int64(unix.Minor(st.Rdev))), Access: "r",
		})
		return nil
	}
	c := start(t, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup(nodePlacement("devices").path), allow)
	c.shell(t, fmt.Sprintf("mknod /allowed c %d %d && mknod /denied b %d %d", unix.Major(st.Rdev), unix.Minor(st.Rdev), major, minor))
	check := func(when string) {
		t.Helper()
		got := c.shell(t, "(: </allowed) 2>/dev/null && echo opened; (: </denied) 2>&1 | grep -o 'Operation not permitted'; : </dev/zero && echo zero")
		if want := "opened\nOperation not permitted\nzero"; got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	check("at the start")
	if onSystemd() {
		reload(t)
		check("after daemon-reload")
	}
	if err := c.task.Update(inNamespace(t), containerd.WithResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ref(int64(128 * mib))}})); err != nil {
		t.Fatal(err)
	}
	check("after an update")
	if onSystemd() {
		reload(t)
		check("after both")
	}
}

// TestOOMGroup: that a container is killed as a whole, as a kubelet asks for,
// survives systemd's reading of its units.
func TestOOMGroup(t *testing.T) {
	logOnFailure(t)
	c := start(t, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup("system.slice:oomgroup:a"),
		withResources(&specs.LinuxResources{
			Memory:  &specs.LinuxMemory{Limit: ref(int64(64 * mib))},
			Unified: map[string]string{"memory.oom.group": "1"},
		}))
	cgroup := "/system.slice/oomgroup-a.scope"
	want := limits{"memory.oom.group": "1", "memory.max": fmt.Sprint(64 * mib)}
	checkPlace(t, "the container", c.pid(), cgroup)
	want.check(t, "at the start", cgroup)
	want.survive(t, "after daemon-reload", cgroup)
	if err := c.task.Update(inNamespace(t), containerd.WithResources(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ref(int64(77))}})); err != nil {
		t.Fatal(err)
	}
	want["pids.max"] = "77"
	want.survive(t, "after an update of something else and a daemon-reload", cgroup)
}

// TestUpdateSurvives: what systemd forgets is put back as the last update left
// it, not as the container was created, also by a daemon that started since.
func TestUpdateSurvives(t *testing.T) {
	logOnFailure(t)
	place := nodePlacement("updated")
	size := func(swap int64, group string) *specs.LinuxResources {
		return &specs.LinuxResources{
			Memory:  &specs.LinuxMemory{Limit: ref(int64(64 * mib)), Swap: ref((64 + swap) * mib)},
			Unified: map[string]string{"memory.oom.group": group},
		}
	}
	c := start(t, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup(place.path), withResources(size(0, "1")))
	for _, step := range []struct {
		swap  int64
		group string
	}{{32, "0"}, {0, "1"}, {0, "0"}} {
		if err := c.task.Update(inNamespace(t), containerd.WithResources(size(step.swap, step.group))); err != nil {
			t.Fatal(err)
		}
		want := limits{"memory.swap.max": fmt.Sprint(step.swap * mib), "memory.oom.group": step.group}
		want.check(t, "updated", place.cgroup)
		want.survive(t, fmt.Sprintf("%d MiB of swap and the group %s after daemon-reload", step.swap, step.group), place.cgroup)
	}
	if err := daemon.restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := awaitServing(t.Context()); err != nil {
		t.Fatal(err)
	}
	limits{"memory.swap.max": "0", "memory.oom.group": "0"}.survive(t, "after a restart and daemon-reload", place.cgroup)
}

// TestResize: a kubelet's resize in place, up and down, reaches both the kernel
// and systemd.
func TestResize(t *testing.T) {
	logOnFailure(t)
	parent := map[bool]string{true: "kubepods-burstable-podresize.slice", false: "/kubepods/burstable/podresize"}[onSystemd()]
	p := runPod(t, "resize", parent)
	size := func(scale int64) *cri.LinuxContainerResources {
		r := &cri.LinuxContainerResources{
			MemoryLimitInBytes: scale * 64 * mib, MemorySwapLimitInBytes: scale * 64 * mib,
			CpuQuota: scale * 10000, CpuPeriod: 100000, CpuShares: scale * 512,
		}
		if !onV1() {
			r.Unified = map[string]string{"memory.oom.group": "1"}
		}
		return r
	}
	files := func(scale int64) limits {
		if onV1() {
			return limits{
				"memory.limit_in_bytes":       fmt.Sprint(scale * 64 * mib),
				"memory.memsw.limit_in_bytes": fmt.Sprint(scale * 64 * mib),
				"cpu.cfs_quota_us":            fmt.Sprint(scale * 10000),
				"cpu.shares":                  fmt.Sprint(scale * 512),
			}
		}
		l := limits{
			"memory.max":       fmt.Sprint(scale * 64 * mib),
			"memory.swap.max":  "0",
			"cpu.max":          fmt.Sprintf("%d 100000", scale*10000),
			"memory.oom.group": "1",
		}
		if !onSystemd() {
			// CRI looks for the file in the daemon's own cgroup; that is the root, which
			// has none, so it takes the kernel for one without swap.
			delete(l, "memory.swap.max")
		}
		return l
	}
	id := p.run(t, "c", size(1), "sleep", "1000")
	unit, cgroup := "", parent+"/"+id
	if onSystemd() {
		unit = "cri-containerd-" + id + ".scope"
		cgroup = "/kubepods.slice/kubepods-burstable.slice/" + parent + "/" + unit
	}
	check := func(when string, scale int64) {
		t.Helper()
		files(scale).check(t, when, cgroup)
		if !onSystemd() {
			return
		}
		property := map[bool]string{true: "MemoryLimit", false: "MemoryMax"}[onV1()]
		if got, want := systemctl(t, "show", "--property="+property, "--value", unit), fmt.Sprint(scale*64*mib); got != want {
			t.Errorf("%s: systemd knows %s=%s, want %s", when, property, got, want)
		}
	}
	check("at the start", 1)
	for _, scale := range []int64{3, 1} {
		if _, err := runtime.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: size(scale)}); err != nil {
			t.Fatalf("resize to scale %d: %v", scale, err)
		}
		check(fmt.Sprintf("resized to scale %d", scale), scale)
		files(scale).survive(t, fmt.Sprintf("after daemon-reload at scale %d", scale), cgroup)
	}
}
