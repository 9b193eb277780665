// SPDX-License-Identifier: Apache-2.0

package reaping

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

// outcome is how one of many execs went.
type outcome struct {
	i       int
	code    uint32
	err     error
	started bool
}

// execOne runs one exec to its end.
func execOne(ctx context.Context, task containerd.Task, i int, process *specs.Process, started chan<- int) outcome {
	exec, err := task.Exec(ctx, fmt.Sprintf("exec-%d", i), process, cio.NullIO)
	if err != nil {
		return outcome{i: i, err: err}
	}
	exit, err := exec.Wait(ctx)
	if err != nil {
		return outcome{i: i, err: fmt.Errorf("wait: %w", err)}
	}
	if err := exec.Start(ctx); err != nil {
		_, _ = exec.Delete(ctx) // it never ran; the task may be gone too
		return outcome{i: i, err: err}
	}
	started <- i
	select {
	case status := <-exit:
		code, _, err := status.Result()
		if err == nil {
			_, err = exec.Delete(ctx)
		}
		return outcome{i: i, code: code, err: err, started: true}
	case <-ctx.Done():
		return outcome{i: i, err: fmt.Errorf("wait for the exit: %w", ctx.Err()), started: true}
	}
}

// TestParallelExecs: 200 execs at once, each with a code of its own.
func TestParallelExecs(t *testing.T) {
	d := quoind(t)
	r := d.Run(t, harness.ID(t), harness.Container{Args: []string{"sleep", "907"}})
	for _, o := range storm(t, d, r, func(int) string { return "" }, nil) {
		if o.err != nil || o.code != code(o.i) {
			t.Errorf("exec %d: code %d, %v; want %d", o.i, o.code, o.err, code(o.i))
		}
	}
	r.Signal(t, syscall.SIGKILL)
	if code := r.AwaitExit(t).ExitCode(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	r.Delete(t)
	noZombies(t)
	harness.Leftovers(t, d)
}

// TestExecsWhileInitDies: 200 execs in parallel while the container's first
// process is killed. Each gets its own code, or is killed with the container,
// or is refused since the container is gone; none hangs.
func TestExecsWhileInitDies(t *testing.T) {
	d := quoind(t)
	r := d.Run(t, harness.ID(t), harness.Container{Args: []string{"sleep", "908"}})
	// A third of them runs until killed.
	script := func(i int) string {
		if i%3 == 0 {
			return "sleep 909; "
		}
		return ""
	}
	ended, killed, refused := 0, 0, 0
	for _, o := range storm(t, d, r, script, func() { r.Signal(t, syscall.SIGKILL) }) {
		switch {
		case o.started && o.err != nil:
			t.Errorf("exec %d started and then: %v", o.i, o.err)
		case o.started && o.code == code(o.i) && o.i%3 != 0:
			ended++
		case o.started && o.code == 137:
			killed++
		case o.started:
			t.Errorf("exec %d: code %d, want %d or 137", o.i, o.code, code(o.i))
		case errors.Is(o.err, context.DeadlineExceeded):
			t.Errorf("exec %d hung: %v", o.i, o.err)
		case errdefs.IsUnknown(o.err) || errdefs.IsNotFound(o.err) || errdefs.IsFailedPrecondition(o.err):
			refused++
		default:
			t.Errorf("exec %d was refused with %v", o.i, o.err)
		}
	}
	t.Logf("%d ended by themselves, %d were killed, %d were refused", ended, killed, refused)
	if killed == 0 || refused == 0 {
		t.Errorf("the first process died too late or too early to show anything")
	}
	if code := r.AwaitExit(t).ExitCode(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	noZombies(t)
	r.Delete(t)
	harness.Leftovers(t, d)
}

const execs = 200

// code is what exec i exits with.
func code(i int) uint32 { return uint32(1 + i%100) }

// storm runs all execs at once; midway, if any, is called when a quarter of
// them has started.
func storm(t *testing.T, d *harness.Daemon, r *harness.Running, before func(int) string, midway func()) []outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(d.Context(t, ""), 4*harness.Patience)
	defer cancel()
	outcomes, started := make(chan outcome, execs), make(chan int, execs)
	for i := range execs {
		process := r.Process(t, "sh", "-c", fmt.Sprintf("%sexit %d", before(i), code(i)))
		go func() { outcomes <- execOne(ctx, r.Task, i, process, started) }()
	}
	if midway != nil {
		for range execs / 4 {
			<-started
		}
		midway()
	}
	all := make([]outcome, execs)
	for i := range all {
		all[i] = <-outcomes
	}
	return all
}

// TestExitBeforeStartReturns: a process that is gone before its start is
// answered is not lost.
func TestExitBeforeStartReturns(t *testing.T) {
	d := quoind(t)
	for i := range 10 {
		r := d.Run(t, fmt.Sprintf("%s-%d", harness.ID(t), i), harness.Container{Args: []string{"true"}})
		began := time.Now()
		if code := r.AwaitExit(t).ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the exit of a process that ends at once took %v", took)
		}
		r.Delete(t)
	}
}
