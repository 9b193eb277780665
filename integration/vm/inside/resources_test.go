// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// onV1 says whether the bed's controllers are those of cgroup v1.
func onV1() bool { return bed == "hybrid" }

// limits are what one state of a container's resources has to look like in the
// files of its cgroup.
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
		text, err := os.ReadFile(cgroupFile(cgroup, file))
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

// survive has systemd, where there is one, read its units again. What it takes
// then, quoind puts back at once.
func (l limits) survive(t *testing.T, when, cgroup string) {
	t.Helper()
	if !onSystemd() {
		return
	}
	reload(t)
	eventually(t, when, func() string { return strings.Join(l.problems(cgroup), ", ") })
}

// reload has systemd read its units again and write the cgroups: that is in its
// queue when the first command ends, and done before it answers the second.
func reload(t *testing.T) {
	t.Helper()
	systemctl(t, "daemon-reload")
	systemctl(t, "show", "--property=Version")
}

// cgroupFile is where a file of a cgroup is: with cgroup v1, its name begins with
// that of its controller's hierarchy.
func cgroupFile(cgroup, file string) string {
	if onV1() {
		controller, _, _ := strings.Cut(file, ".")
		return path.Join("/sys/fs/cgroup", controller, cgroup, file)
	}
	return path.Join("/sys/fs/cgroup", cgroup, file)
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
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ref(scale * 64 * mib), Swap: ref(scale * 96 * mib), Reservation: ref(scale * 32 * mib)},
		CPU:    &specs.LinuxCPU{Quota: ref(scale * 20000), Period: ref(uint64(100000)), Cpus: fmt.Sprintf("0-%d", scale-1), Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ref(scale * 50)},
		BlockIO: &specs.LinuxBlockIO{
			ThrottleReadBpsDevice:   throttle(major, minor, uint64(scale*10*mib)),
			ThrottleWriteIOPSDevice: throttle(major, minor, uint64(scale*1000)),
		},
		// runc cannot change these while the container runs, so they stay.
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 * mib}},
	}
	if onV1() {
		r.CPU.Shares = ref(uint64(scale * 77))
		return r
	}
	r.Unified = map[string]string{
		"memory.high": fmt.Sprint(scale * 60 * mib),
		"cpu.weight":  fmt.Sprint(scale * 77), // how shares become weights depends on the runtime
	}
	return r
}

// filesOf says how resources of that scale look in the files.
func filesOf(major, minor, scale int64) limits {
	l := limits{
		"cpuset.cpus": map[int64]string{1: "0", 2: "0-1"}[scale],
		"cpuset.mems": "0",
		"pids.max":    fmt.Sprint(scale * 50),
	}
	maps.Copy(l, map[bool]limits{
		true: {
			"memory.limit_in_bytes":            fmt.Sprint(scale * 64 * mib),
			"memory.memsw.limit_in_bytes":      fmt.Sprint(scale * 96 * mib),
			"memory.soft_limit_in_bytes":       fmt.Sprint(scale * 32 * mib),
			"cpu.cfs_quota_us":                 fmt.Sprint(scale * 20000),
			"cpu.cfs_period_us":                "100000",
			"cpu.shares":                       fmt.Sprint(scale * 77),
			"hugetlb.2MB.limit_in_bytes":       fmt.Sprint(4 * mib),
			"blkio.throttle.read_bps_device":   fmt.Sprintf("%d:%d %d", major, minor, scale*10*mib),
			"blkio.throttle.write_iops_device": fmt.Sprintf("%d:%d %d", major, minor, scale*1000),
		},
		false: {
			"memory.max":      fmt.Sprint(scale * 64 * mib),
			"memory.swap.max": fmt.Sprint(scale * 32 * mib), // without the memory, unlike v1's
			"memory.low":      fmt.Sprint(scale * 32 * mib),
			"memory.high":     fmt.Sprint(scale * 60 * mib),
			"cpu.max":         fmt.Sprintf("%d 100000", scale*20000),
			"cpu.weight":      fmt.Sprint(scale * 77),
			"hugetlb.2MB.max": fmt.Sprint(4 * mib),
			"io.max":          fmt.Sprintf("%d:%d rbps=%d wbps=max riops=max wiops=%d", major, minor, scale*10*mib, scale*1000),
		},
	}[onV1()])
	return l
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

// placement is a cgroupsPath in the form of one driver, and the cgroup that it
// means.
type placement struct{ path, cgroup string }

// placements are those in every form that a bed knows, with a name of the
// test's.
func placements(name string) map[string]placement {
	found := map[string]placement{"cgroupfs": {"/" + name + "/a", "/" + name + "/a"}}
	if onSystemd() {
		found["systemd"] = placement{"system.slice:" + name + ":a", "/system.slice/" + name + "-a.scope"}
	}
	return found
}

// nodePlacement is the one in the form of the node's own driver.
func nodePlacement(name string) placement {
	if onSystemd() {
		return placements(name)["systemd"]
	}
	return placements(name)["cgroupfs"]
}
