// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestKubernetes(t *testing.T) {
	const kubelet, driver, runtimeConfig, pods = "kubernetes.kubelet", "kubernetes.kubelet_driver", "kubernetes.runtime_config", "kubernetes.pods"
	const config, cmdline, exe = "/var/lib/kubelet/config.yaml", "/proc/77/cmdline", "/proc/77/exe"
	version := func(v string) map[string]string { return file(exe, "#!/bin/sh\necho Kubernetes v"+v+"\n") }
	says := func(d string) map[string]string { return file(config, "cgroupDriver: "+d+"\n") }
	flags := func(f ...string) map[string]string {
		return file(cmdline, "kubelet\x00"+strings.Join(f, "\x00")+"\x00")
	}
	unset, wrong := file(config, "kind: KubeletConfiguration\n"), says("cgroupfs")
	change := func(do func(*fakeDaemon)) func(*testing.T, fixture) {
		return func(_ *testing.T, f fixture) { do(f.daemon) }
	}
	for name, s := range map[string]scenario{
		"runs":           {id: kubelet, want: OK, message: "runs as process 77, version 1.37, and uses this daemon"},
		"none":           {id: kubelet, files: noKubelet, want: OK, message: "none runs, and there is no"},
		"file only":      {id: kubelet, files: file("/proc/77/comm", "x"), want: OK, message: "none runs; there is " + config},
		"other endpoint": {id: kubelet, files: flags("--container-runtime-endpoint", "unix:///run/containerd/containerd.sock"), want: Warn, message: "uses /run/containerd/containerd.sock", fix: "--address /run/containerd/containerd.sock doctor"},
		"no endpoint":    {id: kubelet, files: flags("--v=2"), want: OK, message: "not known"},
		"two":            {id: kubelet, files: file("/proc/78/comm", "kubelet\n", "/proc/78/cmdline", "kubelet\x00"), want: Warn, message: "2 run", fix: "end all but one"},
		"not executed":   {id: kubelet, files: file("/proc/77/ns/mnt", "-> mnt:[2]"), want: OK, message: "runs as process 77, and uses"},

		"same":                {id: driver, want: OK, message: "systemd, by " + config},
		"no kubelet":          {id: driver, files: noKubelet, want: OK, message: "there is no kubelet"},
		"unset":               {id: driver, files: unset, want: OK, message: "takes the runtime's"},
		"unset, old":          {id: driver, files: both(unset, version("1.30.1")), want: Fail, message: "means cgroupfs", fix: "cgroupDriver: systemd"},
		"unset, old, right":   {id: driver, files: both(unset, version("1.30.1")), change: exports("driver", "cgroupfs"), want: OK, message: "means cgroupfs"},
		"wrong, ignored":      {id: driver, files: wrong, want: Warn, message: "ignores it", fix: "take cgroupDriver out"},
		"wrong, gate off":     {id: driver, files: both(file(config, "cgroupDriver: cgroupfs\nfeatureGates: {KubeletCgroupDriverFromCRI: false}\n"), version("1.33.0")), want: Fail, message: "pods will not start", fix: "cgroupDriver: systemd"},
		"wrong, gate flag":    {id: driver, files: both(flags("--cgroup-driver=cgroupfs", "--feature-gates", "A=true,KubeletCgroupDriverFromCRI=true"), version("1.29.0")), want: Warn, message: "by the flag --cgroup-driver"},
		"wrong, locked gate":  {id: driver, files: file(config, "cgroupDriver: cgroupfs\nfeatureGates: {KubeletCgroupDriverFromCRI: false}\n"), want: Warn},
		"wrong, old":          {id: driver, files: both(wrong, version("1.30.9")), want: Fail},
		"wrong, unknown":      {id: driver, files: both(wrong, file(exe, gone)), want: Warn, message: "before 1.31"},
		"flag over file":      {id: driver, files: flags("--config="+config, "--cgroup-driver", "cgroupfs"), want: Warn, message: "--cgroup-driver"},
		"drop-in over file":   {id: driver, files: both(flags("--config="+config, "--config-dir=/etc/kubelet.d"), file("/etc/kubelet.d/9.conf", "cgroupDriver: cgroupfs\n")), want: Warn, message: "by /etc/kubelet.d/9.conf"},
		"in its own root":     {id: driver, files: file("/proc/77/root/var/lib/kubelet/config.yaml", "cgroupDriver: cgroupfs\n"), want: Warn, message: "cgroupfs, by " + config},
		"file gone":           {id: driver, files: flags("--config=/nowhere"), want: Warn, message: "/nowhere cannot be read"},
		"file is no YAML":     {id: driver, files: file(config, "a: [\n"), want: Warn, message: "cannot be read"},
		"the worst counts":    {id: driver, files: file("/proc/78/comm", "kubelet\n", "/proc/78/cmdline", "kubelet\x00--cgroup-driver=cgroupfs\x00", "/proc/78/exe", gone), want: Warn},
		"file only, disagree": {id: driver, files: both(wrong, file("/proc/77/comm", "x")), want: Warn, message: "before 1.31"},

		"agrees":       {id: runtimeConfig, want: OK, message: "says systemd"},
		"disagrees":    {id: runtimeConfig, change: change(func(d *fakeDaemon) { d.driver = cri.CgroupDriver_CGROUPFS }), want: Fail, message: "says cgroupfs to the kubelet, but containers are placed by systemd", fix: "SystemdCgroup = true"},
		"no CRI":       {id: runtimeConfig, change: change(func(d *fakeDaemon) { d.noCRI = true }), want: Warn, message: "serves no CRI", fix: "disabled_plugins"},
		"broken":       {id: runtimeConfig, change: change(func(d *fakeDaemon) { d.broken = true }), want: Fail, message: "it broke"},
		"names none":   {id: runtimeConfig, change: change(func(d *fakeDaemon) { d.mute = true }), want: Fail, message: "names no"},
		"not running":  {id: runtimeConfig, alone: true, want: Warn, message: "no daemon runs"},
		"nobody there": {id: runtimeConfig, alone: true, change: stale, want: Warn, message: "no daemon runs"},

		"as decided": {id: pods, want: OK, message: "run below /kubepods.slice"},
		"no pods":    {id: pods, files: noPods, want: OK, message: "none"},
		"of other":   {id: pods, change: exports("driver", "cgroupfs"), want: Fail, message: "which the systemd driver made; the node's is cgroupfs", fix: "drain"},
		"of both":    {id: pods, files: cgroupfsPods, want: Fail, message: "pods of both drivers", fix: "drain"},
		"no cgroups": {id: pods, alone: true, files: file("/proc/self/cgroup", gone), want: Warn},
	} {
		check1(t, name, s)
	}
}
