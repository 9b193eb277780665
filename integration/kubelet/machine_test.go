// SPDX-License-Identifier: Apache-2.0

//go:build kubelet

package kubelet

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/harness"
)

// keepFromMachine hides from the kubelet what it would change of the machine:
// settings of the kernel, which namespaces do not separate, and directories
// whose places cannot be configured.
func keepFromMachine(t *testing.T) {
	t.Helper()
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		setting := filepath.Join("/proc/sys", name)
		text, err := os.ReadFile(setting)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(t.TempDir(), filepath.Base(name))
		if err := os.WriteFile(copied, text, 0o644); err != nil {
			t.Fatal(err)
		}
		mount(t, copied, setting, "", syscall.MS_BIND)
	}
	for _, dir := range []string{"/var/log", "/var/lib/kubelet"} {
		if err := os.Mkdir(dir, 0o755); err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) }) // as it was; not if somebody uses it by now
		} else if !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		mount(t, "tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV)
	}
}

// mount mounts until the test's end, in the package's mount namespace.
func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
		t.Fatalf("mount over %s: %v", target, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, 0); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

// makeRoot makes the cgroup that the kubelet's are below, in each hierarchy, and
// returns its path. The kubelet leaves those of the classes of pods; they are
// removed at the end, which fails if there is a pod's in one.
func makeRoot(t *testing.T) string {
	t.Helper()
	root := "/" + harness.Token()
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil || len(hierarchies) == 0 {
		t.Fatalf("find the hierarchies of cgroup v1: %q, %v", hierarchies, err)
	}
	for _, h := range hierarchies {
		dir := filepath.Join(filepath.Dir(h), root)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, name := range []string{"kubepods/besteffort", "kubepods/burstable", "kubepods", "."} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("remove what the kubelet leaves: %v", err)
				}
			}
		})
	}
	return root
}

// start starts the kubelet, and stops it at the test's end.
func (k *Kubelet) start(t *testing.T) {
	t.Helper()
	args, err := k.Write()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(k.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	k.Log = func() string {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	cmd := exec.Command(binary.Path(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the kubelet: %v", err)
	}
	harness.Expect(cmd.Process.Pid)
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its state
		close(exited)
	}()
	k.Running = func() error {
		select {
		case <-exited:
			return errors.New(cmd.ProcessState.String())
		default:
			return nil
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the kubelet's log:\n%s", k.LogEnd())
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have exited
		select {
		case <-exited:
		case <-time.After(harness.Patience):
			_ = cmd.Process.Kill()
			<-exited
			t.Errorf("the kubelet did not end within %v of SIGTERM", harness.Patience)
		}
		k.Unmount(t)
	})
}
