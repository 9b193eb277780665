// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestWrongState: requests that do not fit what the container is doing.
func TestWrongState(t *testing.T) {
	d := quoind(t)
	ctx := d.Context(t, "")
	r := d.Run(t, harness.ID(t), harness.Container{Args: []string{"sleep", "1000"}})

	_, err := r.NewTask(ctx, cio.NullIO)
	wantError(t, "a second create", err, errdefs.IsAlreadyExists, r.ID())
	wantError(t, "a second start", r.Task.Start(ctx), errdefs.IsFailedPrecondition)
	_, err = d.Client().TaskService().Delete(ctx, deleteTask(r.ID()))
	err = errgrpc.ToNative(err)
	wantError(t, "delete of a running task", err, errdefs.IsFailedPrecondition)

	process := r.Process(t, "sleep", "1000")
	exec, err := r.Task.Exec(ctx, "the-exec", process, cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "kill of an exec that was not started", exec.Kill(ctx, syscall.SIGKILL), errdefs.IsFailedPrecondition)
	_, err = r.Task.Exec(ctx, "the-exec", process, cio.NullIO)
	wantError(t, "a second exec of the same id", err, errdefs.IsAlreadyExists, "the-exec")
	if err := exec.Start(ctx); err != nil {
		t.Fatal(err)
	}
	wantError(t, "a second start of an exec", exec.Start(ctx), nil)

	r.Signal(t, syscall.SIGKILL)
	if code := r.AwaitExit(t).ExitCode(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	late, err := r.Task.Exec(ctx, "late", process, cio.NullIO)
	if err == nil {
		err = late.Start(ctx)
	}
	wantError(t, "exec in a stopped container", err, errdefs.IsFailedPrecondition, "stopped")
	wantError(t, "kill of a stopped container", r.Task.Kill(ctx, syscall.SIGTERM), errdefs.IsNotFound)
	wantError(t, "pause of a stopped container", r.Task.Pause(ctx), nil, "stopped")
	wantError(t, "resume of a stopped container", r.Task.Resume(ctx), nil, "stopped")
	r.Delete(t)
	harness.Leftovers(t, d)
}

// TestFailedExec: an exec that cannot start leaves the container as it was,
// and its id can be used again.
func TestFailedExec(t *testing.T) {
	d := quoind(t)
	ctx := d.Context(t, "")
	r := d.Run(t, harness.ID(t), harness.Container{Args: []string{"sleep", "1000"}})
	for _, tc := range []struct {
		args   []string
		change func(*specs.Process)
		words  []string
	}{
		{args: []string{"no-such-command"}, words: []string{"no-such-command", "executable file not found in $PATH"}},
		{args: []string{"/no/such"}, words: []string{"no such file or directory"}},
		{args: []string{"/plain"}, words: []string{"permission denied"}},
		{args: []string{"true"}, change: func(p *specs.Process) { p.Cwd = "relative" }, words: []string{"cwd"}},
		{args: []string{"true"}, change: func(p *specs.Process) { p.User.UID = 1<<32 - 1 }, words: []string{"4294967295"}},
	} {
		p := r.Process(t, tc.args...)
		if tc.change != nil {
			tc.change(p)
		}
		exec, err := r.Task.Exec(ctx, "again", p, cio.NullIO)
		if err != nil {
			wantError(t, tc.args[0], err, nil, tc.words...)
			continue
		}
		exit, err := exec.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, tc.args[0], exec.Start(ctx), nil, tc.words...)
		if status := harness.AwaitExit(t, tc.args[0], exit); status.ExitCode() == 0 {
			t.Errorf("%q: an exec that did not start has the exit code 0", tc.args)
		}
		if _, err := exec.Delete(ctx); err != nil {
			t.Errorf("delete the exec %q: %v", tc.args, err)
		}
	}
	if code := r.RunExec(t, "again", "sh", "-c", "exit 6").ExitCode(); code != 6 {
		t.Errorf("exit code %d, want 6", code)
	}
}
