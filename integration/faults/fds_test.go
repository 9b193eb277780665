// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/integration/harness"
)

// limitFiles lets a process open that many descriptors more than it has, and returns
// a function that takes the limit off.
func limitFiles(t *testing.T, pid, more int) (lift func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: uint64(openFiles(t, pid) + more), Max: before.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestShimWithoutDescriptors: a shim that can open nothing more refuses what is new
// with an error that says so and leaves nothing of it, tells the exits of what runs,
// with their true status, and works again as soon as it can.
func TestShimWithoutDescriptors(t *testing.T) {
	if harness.Reference() {
		return // nothing of this is promised for it
	}
	harness.OnBoth(t, "fds", func(t *testing.T, d *harness.Daemon) {
		runs := d.Run(t, "runs", exitsOnTerm(42))
		runs.Stdout.Await(t, "ready")
		shim := d.Shim(t, "runs").PID
		children := len(harness.Children(shim))
		ctx := runs.Context(t)
		process := runs.Process(t, "true")
		// From none on: so many ways there are to run out on the way to a process.
		for more := range 12 {
			lift := limitFiles(t, shim, more)
			id := fmt.Sprint("e", more)
			e, err := runs.Task.Exec(ctx, id, process, cio.NullIO)
			if err == nil {
				if err = e.Start(ctx); err == nil {
					exit, werr := e.Wait(ctx)
					if werr != nil {
						t.Fatal(werr)
					}
					if status := harness.AwaitExit(t, id, exit); status.ExitCode() != 0 {
						t.Errorf("with %d descriptors an exec ends with %d", more, status.ExitCode())
					}
				}
			}
			// The OCI runtime inherits the limit, and has words of its own.
			if err != nil && !strings.Contains(err.Error(), "too many open files") && !strings.Contains(err.Error(), "OCI runtime exec failed") {
				t.Errorf("with %d descriptors: %v", more, err)
			}
			if more == 0 && err == nil {
				t.Error("an exec was started without any descriptor")
			}
			if status, err := runs.Task.Status(ctx); err != nil || status.Status != "running" {
				t.Errorf("with %d descriptors the container is %v, %v", more, status, err)
			}
			lift()
			if e != nil {
				if _, err := e.Delete(ctx); err != nil {
					t.Errorf("delete of exec %s: %v", id, err)
				}
			}
			harness.Eventually(t, "nothing is left of the exec", func() string {
				if now := harness.Children(shim); len(now) > children {
					return harness.Describe(now)
				}
				return ""
			})
		}
		lift := limitFiles(t, shim, 0)
		told := listen(t, d, "runs")
		runs.Signal(t, syscall.SIGTERM)
		if status := runs.AwaitExit(t); status.ExitCode() != 42 {
			t.Errorf("exit code %d, want 42", status.ExitCode())
		}
		if e := told.awaitExit(t, ""); e.status != 42 {
			t.Errorf("told: %s", e)
		}
		lift()
		runs.Delete(t)
	})
}
