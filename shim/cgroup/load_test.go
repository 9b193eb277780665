// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const hybridMounts = `23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 23 0:32 /docker/x /var/lib/my\040docker/memory rw,relatime - cgroup cgroup rw,memory
`

func TestParseMounts(t *testing.T) {
	mounts, err := parseMounts(strings.NewReader(hybridMounts))
	must(t, err)
	want := []mount{
		{root: "/", point: "/sys/fs/cgroup/cpu,cpuacct", controllers: []string{"cpu", "cpuacct"}},
		{root: "/", point: "/sys/fs/cgroup/memory", controllers: []string{"memory"}},
		{root: "/", point: "/sys/fs/cgroup/systemd", controllers: []string{"name=systemd"}},
		{root: "/", point: "/sys/fs/cgroup/unified", v2: true},
		{root: "/docker/x", point: "/var/lib/my docker/memory", controllers: []string{"memory"}},
	}
	if d := cmp.Diff(want, mounts, cmp.AllowUnexported(mount{})); d != "" {
		t.Error(d)
	}
}

func TestModeOf(t *testing.T) {
	for name, tc := range map[string]struct {
		mountinfo string
		want      Mode
	}{
		"none":    {"23 1 254:0 / / rw - ext4 /dev/vda rw\n", Unavailable},
		"hybrid":  {hybridMounts, Hybrid},
		"legacy":  {strings.ReplaceAll(hybridMounts, "- cgroup2 cgroup2", "- tmpfs tmpfs"), Legacy},
		"unified": {"24 23 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", Unified},
		// The v1 mounts are still listed, but cannot be reached.
		"unified over hybrid": {hybridMounts + "60 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", Unified},
		"unified elsewhere":   {"24 23 0:30 / /cgroup rw - cgroup2 cgroup2 rw\n", Unified},
	} {
		t.Run(name, func(t *testing.T) {
			mounts, err := parseMounts(strings.NewReader(tc.mountinfo))
			must(t, err)
			if got := modeOf(mounts); got != tc.want {
				t.Errorf("mode %s, want %s (%+v)", got, tc.want, mounts)
			}
		})
	}
}

func TestMountDir(t *testing.T) {
	for _, tc := range []struct {
		root, path, want string
	}{
		{"/", "/a/b", "/m/a/b"},
		{"/", "/", "/m"},
		{"/a", "/a/b", "/m/b"},
		{"/a", "/a", "/m"},
		{"/a", "/ab", ""},
		{"/", "/../x", ""}, // outside our cgroup namespace
		{"/", "/..", ""},
		{"/..", "/../x", "/m/x"},
		{"/", "/..data", "/m/..data"},
	} {
		got, ok := mount{root: tc.root, point: "/m"}.dir(tc.path)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s in %s: %q %v, want %q", tc.path, tc.root, got, ok, tc.want)
		}
	}
}

// fake makes a root with the given files; a name that ends in / is a directory.
func fake(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, data := range files {
		full := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(full, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		must(t, os.WriteFile(full, []byte(data), 0o644))
	}
	return root
}

func TestLoadHybridTree(t *testing.T) {
	root := fake(t, map[string]string{
		"proc/self/mountinfo": hybridMounts,
		"proc/7/cgroup":       "9:name=systemd:/k/c\n4:memory:/k/c\n1:cpu,cpuacct:/\n0::/k/c\n",
		"proc/8/cgroup":       "9:name=systemd:/\n4:memory:/\n1:cpu,cpuacct:/\n0::/\n",
		"proc/8/stat":         "8 (a) b) Z 1",
		"proc/9/cgroup":       "9:name=systemd:/\n4:memory:/\n1:cpu,cpuacct:/\n0::/\n",
		"proc/9/stat":         "9 (a) S 1",
		"proc/10/cgroup":      "4:memory:/k/d (deleted)\n",
		"proc/11/cgroup":      "rubbish\n",
	})
	c, err := loadIn(root, 7)
	must(t, err)
	want := &Cgroup{mode: Hybrid, unified: root + "/sys/fs/cgroup/unified/k/c", legacy: []legacyDir{
		{controller: "name=systemd", dir: root + "/sys/fs/cgroup/systemd/k/c"},
		{controller: "memory", dir: root + "/sys/fs/cgroup/memory/k/c"},
		{controller: "cpu", dir: root + "/sys/fs/cgroup/cpu,cpuacct", top: true},
		{controller: "cpuacct", dir: root + "/sys/fs/cgroup/cpu,cpuacct", top: true},
	}}
	if d := cmp.Diff(want, c, cmp.AllowUnexported(Cgroup{}, legacyDir{})); d != "" {
		t.Error(d)
	}
	if c.Dir() != root+"/sys/fs/cgroup/memory/k/c" {
		t.Errorf("processes are listed from %s", c.Dir())
	}
	for pid, class := range map[int]func(error) bool{
		8:  errdefs.IsNotFound, // a zombie
		10: errdefs.IsNotFound,
		12: errdefs.IsNotFound, // no such process
		11: func(err error) bool { return err != nil && !errdefs.IsNotFound(err) },
		9:  func(err error) bool { return err == nil },
	} {
		if _, err := loadIn(root, pid); !class(err) {
			t.Errorf("process %d: %v", pid, err)
		}
	}
}

func TestNilCgroup(t *testing.T) {
	var c *Cgroup
	ctx := t.Context()
	if c.Exists() || c.Populated() || c.Dir() != "" || c.Mode() != Unavailable {
		t.Error("a nil cgroup has something")
	}
	_, stats := c.Stats(ctx)
	_, pids := c.Pids()
	w, err := NewOOMWatcher(func(string) {})
	must(t, err)
	defer w.Close()
	for name, err := range map[string]error{
		"Stats": stats, "Pids": pids, "Kill": c.Kill(ctx, unix.SIGKILL),
		"Freeze": c.Freeze(ctx), "Thaw": c.Thaw(ctx), "Add": w.Add("x", c),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadLegacy(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	pids, err := c.Pids()
	must(t, err)
	if len(pids) != 1 || pids[0] != p.Process.Pid {
		t.Fatalf("pids %v, want %d", pids, p.Process.Pid)
	}
	lifeAndDeath(t, c, p)
}

func TestLoadUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)
	mounts, mode, err := readMounts("")
	must(t, err)
	slow := resolve(mounts, mode, []membership{{path: testName(t)}})
	if d := cmp.Diff(slow, c, cmp.AllowUnexported(Cgroup{}, legacyDir{})); d != "" {
		t.Errorf("with and without mountinfo: %s", d)
	}
	// A process in a child is listed too, once.
	q := start(t, "idle")
	must(t, Join(testName(t)+"/sub/deep", q.Process.Pid))
	pids, err := c.Pids()
	must(t, err)
	if len(pids) != 2 {
		t.Errorf("pids %v, want %d and %d", pids, p.Process.Pid, q.Process.Pid)
	}
	must(t, q.Process.Kill())
	_ = q.Wait()
	lifeAndDeath(t, c, p)
}

// lifeAndDeath: statistics outlive the process and end with the directory.
func lifeAndDeath(t *testing.T, c *Cgroup, p *process) {
	t.Helper()
	if !c.Exists() || !c.Populated() {
		t.Error("the cgroup of a running process does not exist, or is empty")
	}
	p.tell(t, "exit")
	if err := p.Wait(); p.ProcessState.ExitCode() != 3 {
		t.Fatalf("helper: %v", err)
	}
	eventually(t, "emptiness", func() bool { return !c.Populated() })
	if _, err := c.Stats(t.Context()); err != nil {
		t.Errorf("after the exit: %v", err)
	}
	if err := c.Kill(within(t, 5e9), unix.SIGKILL); err != nil {
		t.Errorf("kill of an empty cgroup: %v", err)
	}
	removeAll(t, testName(t))
	if c.Exists() {
		t.Error("exists after its removal")
	}
	_, statsErr := c.Stats(t.Context())
	_, pidsErr := c.Pids()
	for name, err := range map[string]error{
		"Stats": statsErr, "Pids": pidsErr, "Kill": c.Kill(t.Context(), unix.SIGTERM), "Freeze": c.Freeze(t.Context()), "Thaw": c.Thaw(t.Context()),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s after the removal: %v", name, err)
		}
	}
	if _, err := Load(p.Process.Pid); !errdefs.IsNotFound(err) {
		t.Errorf("load of a process that ended: %v", err)
	}
}

func TestLoadZombie(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	p.tell(t, "exit")
	eventually(t, "the zombie", func() bool { return isZombie("", p.Process.Pid) && !c.Populated() })
	if got, err := Load(p.Process.Pid); !errdefs.IsNotFound(err) {
		t.Errorf("a zombie is in %v, %v", got, err)
	}
}

func TestOpenShapes(t *testing.T) {
	root := fake(t, map[string]string{
		"proc/self/mountinfo": "24 23 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-containerd-x.scope/cgroup.procs": "",
	})
	want := root + "/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-containerd-x.scope"
	for _, p := range []string{
		"kubepods-pod1.slice:cri-containerd:x",
		"/kubepods.slice/kubepods-pod1.slice/cri-containerd-x.scope",
	} {
		c, err := OpenIn(root, p)
		if err != nil || c.Dir() != want {
			t.Errorf("%s: %s, %v", p, c, err)
		}
	}
	if _, err := OpenIn(root, "/nothing"); !errdefs.IsNotFound(err) {
		t.Errorf("a path that is not there: %v", err)
	}
}

// In a cgroup namespace paths are relative to its root, and what is outside of
// it cannot be found.
func TestLoadInCgroupNamespace(t *testing.T) {
	const pidsEnv = "QUOIN_CGROUP_TEST_PIDS"
	if pids := os.Getenv(pidsEnv); pids != "" {
		var in, out int
		_, err := fmt.Sscan(pids, &in, &out)
		must(t, err)
		// The same file system cannot be mounted right on top of itself.
		must(t, unix.Mount("tmpfs", mountPoint, "tmpfs", 0, ""))
		must(t, unix.Mount("cgroup2", mountPoint, "cgroup2", 0, ""))
		c, err := Load(in)
		if err != nil || c.Dir() != mountPoint+"/in" {
			t.Errorf("inside: %s, %v", c, err)
		}
		if c, err := Load(out); !errdefs.IsNotFound(err) {
			t.Errorf("outside: %s, %v", c, err)
		}
		if self, err := Load(os.Getpid()); err != nil || !self.top {
			t.Errorf("the root of the namespace: %+v, %v", self, err)
		}
		return
	}
	if !inUnified(t) {
		return
	}
	in, out := start(t, "idle"), start(t, "idle")
	makeUnified(t, out.Process.Pid)
	must(t, Join(testName(t)+"/in", in.Process.Pid))
	dir, err := os.Open(filepath.Join(mountPoint, testName(t)))
	must(t, err)
	defer dir.Close()
	must(t, Join(testName(t)+"-out", out.Process.Pid))
	t.Cleanup(func() { removeAll(t, testName(t)+"-out") })
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", pidsEnv, in.Process.Pid, out.Process.Pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Unshareflags: syscall.CLONE_NEWNS | unix.CLONE_NEWCGROUP, Pdeathsig: syscall.SIGKILL,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in the cgroup namespace: %v\n%s", err, out)
	}
}
