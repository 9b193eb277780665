// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"

	"github.com/quoin-io/quoin/integration/harness"
)

// victim is a container whose shim is to be killed.
type victim struct {
	d         *harness.Daemon
	id        string
	runtime   *gatedRuntime
	container containerd.Container
	task      containerd.Task
	exit      <-chan containerd.ExitStatus
	told      *told
	// pending are the calls that are under way when the shim is killed. They have to
	// end, however they do.
	pending []<-chan error
}

func newVictim(t *testing.T, d *harness.Daemon, id string) *victim {
	t.Helper()
	v := &victim{d: d, id: id, runtime: newGatedRuntime(t), told: listen(t, d, id)}
	v.container = d.New(t, id, harness.Container{
		Args:    []string{"sh", "-c", "trap 'exit 42' TERM; while :; do sleep 1000 & wait $!; done"},
		Options: v.runtime.options(),
	})
	return v
}

// begin makes a call whose end is waited for later.
func (v *victim) begin(t *testing.T, call func(context.Context) error) {
	ctx := v.d.Context(t, "")
	done := make(chan error, 1)
	v.pending = append(v.pending, done)
	go func() { done <- call(ctx) }()
}

// settled waits for the calls that were under way.
func (v *victim) settled(t *testing.T) {
	t.Helper()
	for _, done := range v.pending {
		select {
		case <-done:
		case <-time.After(harness.Patience):
			t.Fatal("a call hangs after the shim's end")
		}
	}
	if v.exit != nil {
		select {
		case <-v.exit:
		case <-time.After(harness.Patience):
			t.Fatal("Wait hangs after the shim's end")
		}
	}
}

func (v *victim) initPid() int {
	if v.task == nil {
		return 0
	}
	return int(v.task.Pid())
}

func (v *victim) beginCreate(t *testing.T) {
	v.begin(t, func(ctx context.Context) error {
		_, err := v.container.NewTask(ctx, cio.NullIO)
		if err == nil {
			return errors.New("the create has succeeded")
		}
		return nil
	})
}

func (v *victim) create(t *testing.T) {
	t.Helper()
	ctx := v.d.Context(t, "")
	task, err := v.container.NewTask(ctx, cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	v.task = task
	if v.exit, err = task.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

func (v *victim) beginStart(t *testing.T) {
	v.create(t)
	v.begin(t, v.task.Start)
}

func (v *victim) start(t *testing.T) {
	t.Helper()
	v.create(t)
	if err := v.task.Start(v.d.Context(t, "")); err != nil {
		t.Fatal(err)
	}
}

// ready waits until the container's shell has set its trap.
func (v *victim) ready(t *testing.T) {
	t.Helper()
	harness.Eventually(t, "the container's shell is ready", func() string {
		if len(harness.Children(v.initPid())) == 0 {
			return "it has no child yet"
		}
		return ""
	})
}

func (v *victim) exec(t *testing.T, args ...string) containerd.Process {
	t.Helper()
	v.start(t)
	ctx := v.d.Context(t, "")
	spec, err := v.container.Spec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	process := *spec.Process
	process.Args = args
	exec, err := v.task.Exec(ctx, "e", &process, cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	return exec
}

func (v *victim) addExec(t *testing.T) { v.exec(t, "sleep", "1000") }

func (v *victim) beginExec(t *testing.T) {
	exec := v.exec(t, "sleep", "1000")
	v.begin(t, exec.Start)
}

func (v *victim) startExec(t *testing.T) {
	t.Helper()
	exec := v.exec(t, "sleep", "1000")
	ctx := v.d.Context(t, "")
	if err := exec.Start(ctx); err != nil {
		t.Fatal(err)
	}
	v.begin(t, func(ctx context.Context) error {
		exit, err := exec.Wait(ctx)
		if err == nil {
			<-exit
		}
		return err
	})
}

func (v *victim) exitExec(t *testing.T) {
	t.Helper()
	exec := v.exec(t, "sh", "-c", "exit 9")
	if err := exec.Start(v.d.Context(t, "")); err != nil {
		t.Fatal(err)
	}
	if e := v.told.awaitExit(t, "e"); e.status != 9 {
		t.Errorf("the exec exited with %d", e.status)
	}
}

func (v *victim) pause(t *testing.T) {
	t.Helper()
	v.start(t)
	if err := v.task.Pause(v.d.Context(t, "")); err != nil {
		t.Fatal(err)
	}
}

// exitUnseen has the container exit while its shim is stopped, so that nobody reaps
// it before the shim is killed.
func (v *victim) exitUnseen(t *testing.T) {
	t.Helper()
	v.start(t)
	v.ready(t)
	stopProcess(t, v.d.Shim(t, v.id).PID)
	if err := syscall.Kill(v.initPid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the init is a zombie", func() string {
		p, ok := harness.FindProcess(v.initPid())
		if !ok || p.State != "Z" {
			return fmt.Sprintf("%v, %t", p, ok)
		}
		return ""
	})
}

func (v *victim) terminated(t *testing.T) {
	t.Helper()
	v.start(t)
	v.ready(t)
	if err := v.task.Kill(v.d.Context(t, ""), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := v.told.awaitExit(t, ""); e.status != 42 {
		t.Errorf("the container exited with %d", e.status)
	}
}

func (v *victim) beginDelete(t *testing.T) {
	v.terminated(t)
	v.begin(t, func(ctx context.Context) error {
		_, err := v.task.Delete(ctx)
		return err
	})
}
