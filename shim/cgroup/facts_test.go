// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var unifiedHost = map[string]string{
	"proc/self/mountinfo":            "24 23 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
	"proc/self/cgroup":               "0::/system.slice/quoind.service\n",
	"proc/self/uid_map":              "         0          0 4294967295\n",
	"proc/1/comm":                    "systemd\n",
	"proc/sys/kernel/random/boot_id": "boot-1\n",
	"run/systemd/system/":            "",
	"sys/fs/cgroup/system.slice/quoind.service/cgroup.procs":       "",
	"sys/fs/cgroup/system.slice/quoind.service/cgroup.controllers": "memory cpu pids\n",
}

func TestProbe(t *testing.T) {
	files := maps.Clone(unifiedHost)
	f, err := Probe(fake(t, files))
	must(t, err)
	want := Facts{Mode: Unified, Controllers: []string{"cpu", "memory", "pids"}, SystemdDir: true, InitComm: "systemd",
		Path: "/system.slice/quoind.service", Delegated: true, BootID: "boot-1"}
	if d := cmp.Diff(want, f); d != "" {
		t.Error(d)
	}
	if n := f.Node(Unset); n != (Node{Driver: Systemd, Systemd: true}) {
		t.Errorf("%+v", n)
	}
	if n := f.Node(Cgroupfs); n != (Node{Driver: Cgroupfs, Systemd: true}) {
		t.Errorf("%+v", n)
	}

	// In a user namespace whose init is not systemd, the directory is the host's.
	files["proc/self/uid_map"] = "0 100000 65536\n"
	files["proc/1/comm"] = "sh\n"
	delete(files, "sys/fs/cgroup/system.slice/quoind.service/cgroup.procs")
	f, err = Probe(fake(t, files))
	must(t, err)
	if !f.UserNamespace || f.SystemdRuns() || f.Delegated || f.Node(Unset).Driver != Cgroupfs {
		t.Errorf("%+v", f)
	}
	files["proc/1/comm"] = "systemd\n"
	if f, err = Probe(fake(t, files)); err != nil || !f.SystemdRuns() {
		t.Errorf("%+v, %v", f, err)
	}

	// Nor is it ours when process 1 is of a user namespace above.
	root := fake(t, files)
	for pid, namespace := range map[string]string{"self": "user:[2]", "1": "user:[1]"} {
		must(t, os.MkdirAll(filepath.Join(root, "proc", pid, "ns"), 0o755))
		must(t, os.Symlink(namespace, filepath.Join(root, "proc", pid, "ns", "user")))
	}
	if f, err = Probe(root); err != nil || f.SystemdRuns() || !f.InitForeign {
		t.Errorf("%+v, %v", f, err)
	}

	// In a container the directory may be the host's, too.
	files["proc/self/uid_map"] = unifiedHost["proc/self/uid_map"]
	files["proc/1/comm"] = "quoind\n"
	if f, err = Probe(fake(t, files)); err != nil || f.SystemdRuns() {
		t.Errorf("%+v, %v", f, err)
	}
	files["proc/1/comm"] = "systemd\n"

	// A file of that name is no sign of systemd.
	delete(files, "run/systemd/system/")
	files["run/systemd/system"] = ""
	if f, err = Probe(fake(t, files)); err != nil || f.SystemdDir {
		t.Errorf("%+v, %v", f, err)
	}
}

// Where only cgroup2 is mounted our place in it counts, be it the root, whatever
// hierarchies of v1 the kernel has.
func TestProbeUnifiedBesideV1(t *testing.T) {
	files := maps.Clone(unifiedHost)
	files["proc/self/cgroup"] = "9:name=systemd:/q\n4:memory:/\n0::/\n"
	files["sys/fs/cgroup/cgroup.controllers"] = "pids\n"
	files["sys/fs/cgroup/cgroup.procs"] = "1\n"
	files["sys/fs/cgroup/cgroup.type"] = "domain\n"
	f, err := Probe(fake(t, files))
	must(t, err)
	if f.Path != "/" || !f.Delegated || !f.Nested || !slices.Equal(f.Controllers, []string{"pids"}) {
		t.Errorf("%+v", f)
	}
}

func TestProbeHybrid(t *testing.T) {
	f, err := Probe(fake(t, map[string]string{
		"proc/self/mountinfo": hybridMounts,
		"proc/self/cgroup":    "9:name=systemd:/q\n4:memory:/\n0::/\n",
	}))
	must(t, err)
	want := Facts{Mode: Hybrid, Controllers: []string{"cpu", "cpuacct", "memory"}, Path: "/q"}
	if d := cmp.Diff(want, f); d != "" {
		t.Error(d)
	}
	if _, err := Probe(t.TempDir()); err == nil {
		t.Error("no error without /proc")
	}
}

// The real host, whatever it is.
func TestProbeHost(t *testing.T) {
	f, err := Probe("")
	must(t, err)
	if f.Mode == Unavailable || f.InitComm == "" || f.BootID == "" || f.Path == "" {
		t.Errorf("%+v", f)
	}
	if f.Mode != Unified && !slices.Contains(f.Controllers, "memory") {
		t.Errorf("controllers: %v", f.Controllers)
	}
}
