// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"
	"testing"

	"github.com/quoin-io/quoin/shim/cgroup"
)

func TestCgroups(t *testing.T) {
	const version, controllers, delegation, unit = "cgroup.version", "cgroup.controllers", "cgroup.delegation", "cgroup.unit"
	const unitFile = "/usr/lib/systemd/system/quoind.service"
	notRoot := func(_ *testing.T, f fixture) { f.euid = 1000 }
	for name, s := range map[string]scenario{
		"v2":      {id: version, want: OK, message: "v2"},
		"hybrid":  {id: version, files: hybrid, want: Warn, message: "v1 (hybrid)", fix: "cgroup v2"},
		"nothing": {id: version, files: file("/proc/self/mountinfo", "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"), want: Fail, fix: "mount cgroup2"},
		"no proc": {id: version, files: file("/proc/self/mountinfo", gone), alone: true, want: Fail, fix: "mount proc"},

		"of the top":    {id: controllers, want: OK, message: "cpu cpuset hugetlb io memory pids"}, // not of our session
		"vital missing": {id: controllers, files: file("/sys/fs/cgroup/cgroup.controllers", "cpu cpuset io pids\n"), want: Fail, message: "memory missing", fix: "cgroup_enable=memory"},
		"other missing": {id: controllers, files: file("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"), want: Warn, message: "cpuset, io missing"},
		"v1":            {id: controllers, files: hybrid, want: Fail, message: "cpu, pids, devices, freezer missing"},
		"no cgroups":    {id: controllers, files: file("/proc/self/mountinfo", "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"), want: Fail},

		"quoind's":           {id: delegation, want: OK, message: "quoind's cgroup (/system.slice/quoind.service)"},
		"quoind's not":       {id: delegation, change: exports("delegated", "false"), want: Warn, message: "read-only", fix: "Delegate=yes"},
		"not, userns":        {id: delegation, change: exports("delegated", "false", "user_namespace", "true"), want: Fail},
		"not, cgroupfs":      {id: delegation, change: exports("delegated", "false", "driver", "cgroupfs"), want: Fail},
		"ours":               {id: delegation, alone: true, want: OK, message: "quoinctl's own cgroup (/user.slice/session-1.scope)"},
		"of root by another": {id: delegation, alone: true, change: notRoot, want: Warn, fix: "as root"},

		"nested": {id: delegation, files: nested("cpuset cpu io memory hugetlb pids\n"), change: onCgroupfs, want: OK},
		"nested, withheld": {
			id: delegation, files: both(nested("cpu pids\n"), file("/sys/fs/cgroup/cgroup.procs", "")), change: onCgroupfs,
			want: Fail, message: "does not give containers cpuset, io, memory, hugetlb", fix: "restart quoind",
		},
		"nested, occupied": {
			id: delegation, files: both(nested("\n"), file("/sys/fs/cgroup/cgroup.procs", "1\n")), change: onCgroupfs,
			want: Fail, message: "it has processes", fix: "/init",
		},
		"nested, systemd's": {
			id: delegation, files: both(nested("\n"), file("/run/systemd/system/", "", "/proc/1/comm", "systemd\n")), change: onCgroupfs, want: OK,
		},
		"not delegated": {id: controllers, files: both(nested("\n"), file("/sys/fs/cgroup/cgroup.controllers", "pids\n")), want: Fail, fix: "Delegate=cpu"},

		"good":        {id: unit, want: OK, message: "Delegate=yes, KillMode=process"},
		"none":        {id: unit, files: file(unitFile, gone), want: Warn, message: "no unit", fix: "make install"},
		"no delegate": {id: unit, files: file(unitFile, "[Service]\nKillMode=process\n"), want: Fail, fix: "Delegate=yes"},
		"mixed":       {id: unit, files: file(unitFile, "[Service]\nDelegate=yes\nKillMode=mixed\n"), want: Warn, fix: "KillMode=process"},
		"drop-in":     {id: unit, files: file("/etc/systemd/system/quoind.service.d/x.conf", "[Service]\nDelegate=no\n"), want: Fail},
		"overridden":  {id: unit, files: file("/etc/systemd/system/quoind.service", "[Service]\nDelegate=cpu memory\n"), want: Warn, message: "KillMode"},
	} {
		check1(t, name, s)
	}
}

// nested is a cgroup namespace whose root gives controllers to its children.
func nested(given string) map[string]string {
	return both(noSystemd, file("/sys/fs/cgroup/cgroup.type", "domain\n", "/sys/fs/cgroup/cgroup.subtree_control", given))
}

func onCgroupfs(t *testing.T, f fixture) { exports("driver", "cgroupfs", "cgroup", "/init")(t, f) }

// barred is about what root of a host may always do: its findings are told from
// facts.
func TestBarred(t *testing.T) {
	for want, facts := range map[string]cgroup.Facts{
		"read-only":                {Barred: true},
		"start quoind in a cgroup": {Barred: true, UserNamespace: true},
		"have the cgroup":          {Barred: true, UserNamespace: true, Nested: true},
	} {
		w := &world{}
		w.node.facts.Facts = facts
		if f, ok := w.barred(); !ok || f.Status != Fail || !strings.Contains(f.Message+f.Fix, want) {
			t.Errorf("%+v: %+v, want %q", facts, f, want)
		}
	}
	if f, ok := (&world{}).barred(); ok {
		t.Errorf("where nothing is barred: %+v", f)
	}
}

// Where there is no systemd, and where there is no quoind, its unit does not matter.
func TestNoUnitFinding(t *testing.T) {
	for _, f := range []fixture{newFixture(t, noSystemd), newFixture(t, nil)} {
		stockContainerd(t, f)
		for _, found := range examine(t.Context(), f.serve(t).host).Findings {
			if found.ID == "cgroup.unit" {
				t.Errorf("%+v", found)
			}
		}
	}
}
