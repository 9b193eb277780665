// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// cgroup2 is where a hybrid machine has it.
const cgroup2 = "/sys/fs/cgroup/unified"

// delegate makes a cgroup for a user namespace and removes it at the end.
func delegate(t *testing.T, base string) func(int) string {
	t.Helper()
	dir := cgroup2 + base
	t.Cleanup(func() {
		// Deepest first; the last process may still be leaving.
		harness.Eventually(t, dir+" is gone", func() string {
			var dirs []string
			_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for _, d := range slices.Backward(dirs) {
				if err := os.Remove(d); err != nil {
					return err.Error()
				}
			}
			return ""
		})
	})
	return func(pid int) string {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
}

// TestUserNamespace: a quoind in a user namespace places by cgroupfs, in the
// cgroup that was delegated to it.
func TestUserNamespace(t *testing.T) {
	base := "/" + harness.Token() + "-userns"
	p := newPlace(t, "userns", Root, "")
	i := p.InUserNamespace(t, Rootless{Delegate: delegate(t, base)})
	b := Bounds{Base: base, Flags: withoutCPU, NoPods: true}
	if e := i.Driver(t); e["driver"] != "cgroupfs" || e["mode"] != "unified" || e["user_namespace"] != "true" || e["delegated"] != "true" || e["cgroup"] != "/init" {
		t.Errorf("the plugin exports %v", e)
	}
	if got := i.CgroupDriver(t); got != cri.CgroupDriver_CGROUPFS {
		t.Errorf("RuntimeConfig says %v", got)
	}
	i.Containers(t, b)
	checkHandedOn(t, i)
	_, stderr, err := i.Try(t, "quoinctl run --rm "+harness.BusyboxRef+" weighty true")
	if err == nil || !strings.Contains(stderr, "does not give the cpu controller") {
		t.Errorf("a container with a weight that was not delegated: %v, %s", err, stderr)
	}
	i.CheckDoctor(t, map[string]string{"cgroup.delegation": "ok", "cgroup.driver": "ok", "cgroup.version": "ok"})
}

// TestNotDelegated: where a user namespace may not make cgroups, quoind says so
// when it starts, the doctor says what to do, and a container fails with an error
// that names the cgroup.
func TestNotDelegated(t *testing.T) {
	for name, tc := range map[string]struct {
		rootless  Rootless
		warn, fix string
	}{
		"owned by another":    {Rootless{Owned: true}, "not delegated to the user namespace", "have the cgroup delegated"},
		"no cgroup namespace": {Rootless{NoCgroupNamespace: true}, "unshare --cgroup", "unshare --cgroup"},
	} {
		t.Run(name, func(t *testing.T) {
			id := harness.ID(t)
			p := newPlace(t, id, Root, "")
			tc.rootless.Delegate = delegate(t, "/"+harness.Token()+"-"+id)
			i := p.InUserNamespace(t, tc.rootless)
			i.refuses(t, tc.warn, tc.fix)
		})
	}
}

// TestReadOnly: the same for a container whose cgroups are read-only, as those
// of an unprivileged one are.
func TestReadOnly(t *testing.T) {
	d := harness.Start(t, harness.Spec{Name: "outer-ro", Kind: harness.KindQuoind, Bed: harness.CgroupV2})
	p := newPlace(t, "ro", 0, "")
	outer := d.Run(t, harness.ID(t), harness.Container{Args: p.Run("mount -o remount,bind,ro /sys/fs/cgroup"), Spec: p.Container()})
	i := p.Connect(t, int(outer.Task.Pid()))
	i.refuses(t, "read-only", "mount it writable")
}

// refuses checks how a quoind that cannot make cgroups tells of it.
func (i *Inner) refuses(t *testing.T, warn, fix string) {
	t.Helper()
	if e := i.Driver(t); e["driver"] != "cgroupfs" || !strings.Contains(e["warnings"], warn) {
		t.Errorf("the plugin exports %v, want a warning with %q", e, warn)
	}
	if f := i.Doctor(t)["cgroup.delegation"]; f.Status != "fail" || !strings.Contains(f.Fix, fix) {
		t.Errorf("the doctor's finding is %+v, want a failure to fix with %q", f, fix)
	}
	out, stderr, err := i.Try(t, "quoinctl run --rm "+withoutCPU+" "+harness.BusyboxRef+" c1 true")
	if err == nil || !strings.Contains(stderr, "/sys/fs/cgroup/") || !strings.Contains(stderr, "/default") {
		t.Errorf("a container: %v, %s%s; want an error that names its cgroup", err, out, stderr)
	}
	if left := i.Shell(t, "ls /run/quoind/io.containerd.runtime.v2.task/default"); left != "" {
		t.Errorf("bundles are left: %s", left)
	}
}
