// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"

	"github.com/quoin-io/quoin/integration/harness"
)

// disk is a small file system of its own for a daemon's state: its bundles, and with
// them all that a shim writes.
type disk struct{ dir string }

// onSmallDisk runs a test with daemons whose state is on such a disk.
func onSmallDisk(t *testing.T, name string, test func(*testing.T, *harness.Daemon, disk)) {
	harness.ForBoth(t, name, func(t *testing.T, spec harness.Spec) {
		spec.State = filepath.Join("/run/d", spec.Name)
		if err := os.MkdirAll(spec.State, 0o711); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", spec.State, "tmpfs", 0, "size=8m,mode=711"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // after the daemon's
			if err := syscall.Unmount(spec.State, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		test(t, harness.Start(t, spec), disk{spec.State})
	})
}

// fill takes all that is left of the disk; the returned function gives it back.
func (d disk) fill(t *testing.T) (free func()) {
	t.Helper()
	path := filepath.Join(d.dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// readOnly makes the bundles so, for whatever is opened from now on, as a file system
// does of which the kernel has found an error: a daemon holds files open in it, for
// which nobody can remount it. The returned function undoes it.
func (d disk) readOnly(t *testing.T) (free func()) {
	t.Helper()
	bundles := filepath.Join(d.dir, "io.containerd.runtime.v2.task")
	for _, flags := range []uintptr{syscall.MS_BIND, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY} {
		if err := syscall.Mount(bundles, bundles, "", flags, ""); err != nil {
			t.Fatalf("make %s read-only: %v", bundles, err)
		}
	}
	return func() {
		if err := syscall.Unmount(bundles, 0); err != nil {
			t.Error(err)
		}
	}
}

// TestDiskFault: a disk that is full, or read-only, fails what is new with an error
// that says so. What runs ends with its true status all the same, told and seen;
// when there is room again, all is as before.
func TestDiskFault(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(disk, *testing.T) func()
		says  string
	}{
		"full":      {disk.fill, "no space left on device"},
		"read-only": {disk.readOnly, "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			onSmallDisk(t, "disk-"+name[:4], func(t *testing.T, d *harness.Daemon, disk disk) {
				testDiskFault(t, d, func(t *testing.T) func() { return tc.spoil(disk, t) }, tc.says)
			})
		})
	}
}

func testDiskFault(t *testing.T, d *harness.Daemon, spoil func(*testing.T) func(), says string) {
	told := listen(t, d, "runs")
	runs := d.Run(t, "runs", exitsOnTerm(42))
	runs.Stdout.Await(t, "ready")
	process := runs.Process(t, "true")
	d.New(t, "new", harness.Container{Args: []string{"true"}}) // its snapshot is on another disk

	free := spoil(t)
	ctx := runs.Context(t)
	container, err := d.Client().LoadContainer(ctx, "new")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := container.NewTask(ctx, cio.NullIO); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("a new task: %v", err)
	}
	if e, err := runs.Task.Exec(ctx, "e", process, cio.NullIO); err != nil {
		t.Errorf("exec: %v", err)
	} else {
		if err := e.Start(ctx); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("start an exec: %v", err)
		}
		if _, err := e.Delete(ctx); err != nil {
			t.Errorf("delete the exec: %v", err)
		}
	}
	runs.Signal(t, syscall.SIGTERM)
	if status := runs.AwaitExit(t); status.ExitCode() != 42 {
		t.Errorf("exit code %d, want 42", status.ExitCode())
	}
	if e := told.awaitExit(t, ""); e.status != 42 {
		t.Errorf("told: %s", e)
	}
	if status, err := runs.Task.Status(ctx); err != nil || status.ExitStatus != 42 {
		t.Errorf("status %+v, %v", status, err)
	}
	free()

	runs.Delete(t)
	task, err := container.NewTask(ctx, cio.NullIO)
	if err != nil {
		t.Fatalf("with room again: %v", err)
	}
	exit, err := task.Wait(context.WithoutCancel(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if status := harness.AwaitExit(t, "new", exit); status.ExitCode() != 0 {
		t.Errorf("exit code %d", status.ExitCode())
	}
	if _, err := task.Delete(ctx); err != nil {
		t.Error(err)
	}
	d.Remove(t, "new")
}
