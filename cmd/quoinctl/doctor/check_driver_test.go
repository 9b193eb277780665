// SPDX-License-Identifier: Apache-2.0

package doctor

import "testing"

func TestDriver(t *testing.T) {
	const driver, shapes = "cgroup.driver", "cgroup.shapes"
	const bundles = "/run/quoind/io.containerd.runtime.v2.task/"
	setting := func(v string) map[string]string {
		return file("/etc/quoind/config.toml", "[plugins.'io.quoin.node.v1.cgroupdriver']\ndriver = '"+v+"'\n")
	}
	spec := func(path string) string { return `{"linux":{"cgroupsPath":"` + path + `"}}` }
	record := file("/run/quoind/io.quoin.node.v1.cgroupdriver/decision.json", `{"version":1,"boot_id":"boot-1","driver":"systemd","setting":"auto","reasons":["r"]}`)
	for name, s := range map[string]scenario{
		"quoind's":         {id: driver, want: OK, message: "systemd, as quoind decided: systemd answers"},
		"with a warning":   {id: driver, change: exports("warnings", "drain it"), want: Warn, fix: "drain it"},
		"setting changed":  {id: driver, files: setting("cgroupfs"), want: Warn, message: `driver = "cgroupfs", quoind was started with "auto"`, fix: "restart"},
		"stock containerd": {id: driver, change: stockContainerd, want: OK, message: "systemd, as a Quoin shim decides under stock containerd"},
		"stock, no systemd": {id: driver, files: noSystemd, change: stockContainerd, want: OK,
			message: "cgroupfs, as a Quoin shim decides"},
		"computed":         {id: driver, alone: true, files: noPods, want: OK, message: "systemd, computed on the spot, since no quoind answers: systemd answers on D-Bus"},
		"of pods":          {id: driver, alone: true, want: OK, message: "pods are running in /kubepods.slice"},
		"recorded":         {id: driver, alone: true, files: both(noSystemd, noPods, record), want: Warn, message: "systemd, computed on the spot", fix: "not booted"},
		"hybrid warns not": {id: driver, alone: true, files: both(hybrid, noSystemd, noPods), want: OK, message: "cgroupfs"},
		"configured":       {id: driver, alone: true, files: both(setting("cgroupfs"), noPods), want: OK, message: `the configuration says driver = "cgroupfs"`},
		"impossible":       {id: driver, alone: true, files: both(setting("systemd"), noSystemd), want: Fail, message: "would not start", fix: "auto"},
		"nonsense":         {id: driver, alone: true, files: setting("both"), want: Fail, message: `"both"`},
		"not root": {id: driver, alone: true, files: record, change: func(_ *testing.T, f fixture) { f.euid = 1000 }, want: Warn,
			fix: "as root"},

		"agree":      {id: shapes, want: OK, message: "all 2 have cgroup paths of the systemd driver"},
		"none":       {id: shapes, alone: true, files: file(bundles+"k8s.io/c1/config.json", gone, bundles+"k8s.io/c2/config.json", gone), want: OK, message: "none runs"},
		"no state":   {id: shapes, alone: true, files: file(bundles, gone, bundles+"k8s.io/c1/config.json", gone, bundles+"k8s.io/c2/config.json", gone), want: OK},
		"a path":     {id: shapes, files: file(bundles+"default/x/config.json", spec("/default/x")), want: Warn, message: "1 of 3 have a cgroup path of the other driver: default/x", fix: "systemd driver"},
		"podless":    {id: shapes, files: file(bundles+"k8s.io/c2/config.json", spec("/k8s.io/c2")), want: OK},
		"a slice":    {id: shapes, change: exports("driver", "cgroupfs"), want: Warn, message: "2 of 2", fix: "cgroupfs"},
		"translated": {id: shapes, files: file(bundles+"k8s.io/c1/config.json", spec("/kubepods.slice/pod1.slice/c1.scope"), bundles+"k8s.io/c2/config.json", spec("/kubepods/c2")), change: exports("driver", "cgroupfs"), want: Warn, message: "1 of 2 have a cgroup path of the other driver: k8s.io/c1"},
		"no spec":    {id: shapes, files: file(bundles+"k8s.io/c1/config.json", "{"), want: OK, message: "all 1 "},
		"many": {id: shapes, files: file(bundles+"a/1/config.json", spec("/a"), bundles+"a/2/config.json", spec("/a"), bundles+"a/3/config.json", spec("/a"), bundles+"a/4/config.json", spec("/a")),
			want: Warn, message: "a/1, a/2, a/3, …"},
		"no driver": {id: shapes, alone: true, files: setting("both"), want: Warn},
	} {
		check1(t, name, s)
	}
}
