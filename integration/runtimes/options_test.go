// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestOptions: the runc shim's options mean what they mean there.
func TestOptions(t *testing.T) {
	d := cell{harness.Runc, harness.KindQuoind, harness.Native}.daemon(t)
	start := func(t *testing.T, o *options.Options) *harness.Running {
		t.Helper()
		r := d.Run(t, harness.ID(t), harness.Container{Args: []string{"sleep", "1000"}, Options: o})
		t.Cleanup(func() { d.Remove(t, r.ID()) })
		return r
	}
	end := func(t *testing.T, r *harness.Running) {
		t.Helper()
		r.Signal(t, syscall.SIGKILL)
		r.AwaitExit(t)
		r.Delete(t)
	}

	t.Run("Root", func(t *testing.T) {
		root := t.TempDir()
		r := start(t, &options.Options{Root: root})
		if _, err := os.Stat(filepath.Join(root, d.Namespace, r.ID(), "state.json")); err != nil {
			t.Errorf("the runtime's state is not below Root and the namespace: %v", err)
		}
		end(t, r)
	})
	t.Run("ShimCgroup", func(t *testing.T) {
		group := "/" + harness.Token() + "-shims"
		hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		for _, procs := range hierarchies { // the option names a cgroup that exists
			makeCgroup(t, filepath.Dir(procs), group)
		}
		r := start(t, &options.Options{ShimCgroup: group})
		shims := harness.Shims(r.ID())
		if len(shims) != 1 {
			t.Fatalf("shims:\n%s", harness.Describe(shims))
		}
		got, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", shims[0].PID))
		if err != nil || !strings.Contains(string(got), ":pids:"+group) {
			t.Errorf("the shim is in %s (%v), not in %s", got, err, group)
		}
		own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", r.Task.Pid()))
		if err != nil || strings.Contains(string(own), group) {
			t.Errorf("the container is in %s (%v), it belongs not to the shim's cgroup", own, err)
		}
		end(t, r)
	})
	t.Run("NoPivotRoot and NoNewKeyring", func(t *testing.T) {
		end(t, start(t, &options.Options{NoPivotRoot: true, NoNewKeyring: true}))
	})
	t.Run("IoUid and IoGid", func(t *testing.T) {
		r := start(t, &options.Options{IoUid: 1234, IoGid: 2345})
		info, err := os.Stat(fmt.Sprintf("/proc/%d/fd/1", r.Task.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		// runc then gives the pipe to the process's user, and leaves its group.
		if s := info.Sys().(*syscall.Stat_t); s.Uid != 0 || s.Gid != 2345 {
			t.Errorf("stdout belongs to %d:%d, want 0:2345", s.Uid, s.Gid)
		}
		end(t, r)
	})
	t.Run("BinaryName", func(t *testing.T) {
		r := start(t, &options.Options{BinaryName: harness.DebianRunc.Path()})
		state := filepath.Join("/run/containerd/runc", d.Namespace, r.ID(), "state.json")
		if _, err := os.Stat(state); err != nil {
			t.Errorf("the runtime's state is not where the runc shim keeps it: %v", err)
		}
		end(t, r)
	})
}

// makeCgroup makes a cgroup that processes can join: in a v1 cpuset, only after
// it has got processors and memory.
func makeCgroup(t *testing.T, hierarchy, group string) {
	t.Helper()
	dir := filepath.Join(hierarchy, group)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(hierarchy, file))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), value, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
