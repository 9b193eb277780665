// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const mib = 1 << 20

// limits are what one state of a container's resources has to look like in
// cgroup v2's files.
type limits map[string]string

// check compares the files of a cgroup, when they are said to hold.
func (l limits) check(t *testing.T, when, cgroup string) {
	t.Helper()
	for _, problem := range l.problems(cgroup) {
		t.Errorf("%s: %s", when, problem)
	}
}

func (l limits) problems(cgroup string) []string {
	var found []string
	for file, want := range l {
		text, err := os.ReadFile(path.Join(cgroupDir(cgroup), file))
		if err != nil {
			found = append(found, err.Error())
			continue
		}
		if got := strings.TrimSpace(string(text)); got != want {
			found = append(found, fmt.Sprintf("%s is %q, want %q", file, got, want))
		}
	}
	return found
}

// survive has systemd read its units again. What it takes then, quoind puts back
// at once.
func (l limits) survive(t *testing.T, when, cgroup string) {
	t.Helper()
	systemctl(t, "daemon-reload")
	eventually(t, when, func() string { return strings.Join(l.problems(cgroup), ", ") })
}

// disk is the device that the machine's root is on.
func disk(t *testing.T) (major, minor int64) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat("/dev/vda", &st); err != nil {
		t.Fatal(err)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
}

func ref[T any](v T) *T { return &v }

func throttle(major, minor int64, rate uint64) []specs.LinuxThrottleDevice {
	d := specs.LinuxThrottleDevice{Rate: rate}
	d.Major, d.Minor = major, minor
	return []specs.LinuxThrottleDevice{d}
}

// resources are of one size; scale makes all of them larger.
func resources(major, minor, scale int64) *specs.LinuxResources {
	return &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ref(scale * 64 * mib), Swap: ref(scale * 96 * mib), Reservation: ref(scale * 32 * mib)},
		CPU:    &specs.LinuxCPU{Quota: ref(scale * 20000), Period: ref(uint64(100000)), Cpus: fmt.Sprintf("0-%d", scale-1), Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ref(scale * 50)},
		BlockIO: &specs.LinuxBlockIO{
			ThrottleReadBpsDevice:   throttle(major, minor, uint64(scale*10*mib)),
			ThrottleWriteIOPSDevice: throttle(major, minor, uint64(scale*1000)),
		},
		// runc cannot change these while the container runs, so they stay.
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 * mib}},
		Unified: map[string]string{
			"memory.high": fmt.Sprint(scale * 60 * mib),
			"cpu.weight":  fmt.Sprint(scale * 77), // how shares become weights depends on the runtime
		},
	}
}

// filesOf says how resources of that scale look in the files.
func filesOf(major, minor, scale int64) limits {
	l := limits{
		"memory.max":      fmt.Sprint(scale * 64 * mib),
		"memory.swap.max": fmt.Sprint(scale * 32 * mib), // without the memory, unlike v1's
		"memory.low":      fmt.Sprint(scale * 32 * mib),
		"memory.high":     fmt.Sprint(scale * 60 * mib),
		"cpu.max":         fmt.Sprintf("%d 100000", scale*20000),
		"cpu.weight":      fmt.Sprint(scale * 77),
		"cpuset.cpus":     map[int64]string{1: "0", 2: "0-1"}[scale],
		"cpuset.mems":     "0",
		"pids.max":        fmt.Sprint(scale * 50),
		"hugetlb.2MB.max": fmt.Sprint(4 * mib),
		"io.max":          fmt.Sprintf("%d:%d rbps=%d wbps=max riops=max wiops=%d", major, minor, scale*10*mib, scale*1000),
	}
	return l
}

// TestLimits: what is set is there, changes while the container runs, up and
// down, and is still there after systemd has read its units again.
func TestLimits(t *testing.T) {
	major, minor := disk(t)
	for _, tc := range []struct{ name, path, cgroup string }{
		{"systemd", "system.slice:limits:a", "/system.slice/limits-a.scope"},
		{"cgroupfs", "/limits/a", "/limits/a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			logOnFailure(t)
			c := start(t, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup(tc.path), withResources(resources(major, minor, 1)))
			checkPlace(t, "the container", c.pid(), tc.cgroup)
			filesOf(major, minor, 1).check(t, "at the start", tc.cgroup)
			for _, scale := range []int64{2, 1} {
				if err := c.task.Update(inNamespace(t), containerd.WithResources(resources(major, minor, scale))); err != nil {
					t.Fatalf("update to scale %d: %v", scale, err)
				}
				filesOf(major, minor, scale).check(t, fmt.Sprintf("updated to scale %d", scale), tc.cgroup)
				filesOf(major, minor, scale).survive(t, fmt.Sprintf("after daemon-reload at scale %d", scale), tc.cgroup)
			}
		})
	}
}

// withResources sets limits and leaves the device rules alone.
func withResources(r *specs.LinuxResources) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		devices := s.Linux.Resources.Devices
		s.Linux.Resources = r
		s.Linux.Resources.Devices = devices
		return nil
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
	c := start(t, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup("system.slice:devices:a"), allow)
	c.shell(t, fmt.Sprintf("mknod /allowed c %d %d && mknod /denied b %d %d", unix.Major(st.Rdev), unix.Minor(st.Rdev), major, minor))
	check := func(when string) {
		t.Helper()
		got := c.shell(t, "(: </allowed) 2>/dev/null && echo opened; (: </denied) 2>&1 | grep -o 'Operation not permitted'; : </dev/zero && echo zero")
		if want := "opened\nOperation not permitted\nzero"; got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	check("at the start")
	systemctl(t, "daemon-reload")
	check("after daemon-reload")
	if err := c.task.Update(inNamespace(t), containerd.WithResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ref(int64(128 * mib))}})); err != nil {
		t.Fatal(err)
	}
	check("after an update")
	systemctl(t, "daemon-reload")
	check("after both")
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

// TestResize: a kubelet's resize in place, up and down, reaches both the kernel
// and systemd.
func TestResize(t *testing.T) {
	logOnFailure(t)
	p := runPod(t, "resize", "kubepods-burstable-podresize.slice")
	size := func(scale int64) *cri.LinuxContainerResources {
		return &cri.LinuxContainerResources{
			MemoryLimitInBytes: scale * 64 * mib, MemorySwapLimitInBytes: scale * 64 * mib,
			CpuQuota: scale * 10000, CpuPeriod: 100000, CpuShares: scale * 512,
			Unified: map[string]string{"memory.oom.group": "1"},
		}
	}
	id := p.run(t, "c", size(1), "sleep", "1000")
	unit := "cri-containerd-" + id + ".scope"
	cgroup := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podresize.slice/" + unit
	files := func(scale int64) limits {
		return limits{
			"memory.max":       fmt.Sprint(scale * 64 * mib),
			"memory.swap.max":  "0",
			"cpu.max":          fmt.Sprintf("%d 100000", scale*10000),
			"memory.oom.group": "1",
		}
	}
	check := func(when string, scale int64) {
		t.Helper()
		files(scale).check(t, when, cgroup)
		if got, want := systemctl(t, "show", "--property=MemoryMax", "--value", unit), fmt.Sprint(scale*64*mib); got != want {
			t.Errorf("%s: systemd knows MemoryMax=%s, want %s", when, got, want)
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
