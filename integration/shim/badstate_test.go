// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"testing"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestUnknownTask: every request for a task that is not there says so, in both
// versions of the API.
func TestUnknownTask(t *testing.T) {
	c := newStarter(t, []string{"true"}).start(t)
	ctx := c.ctx(t)
	unknown := []struct {
		name string
		call func() error
	}{
		{"state", func() error { _, err := c.v3.State(ctx, &taskv3.StateRequest{ID: "unknown"}); return err }},
		{"state, version 2", func() error { _, err := c.v2.State(ctx, &taskv2.StateRequest{ID: "unknown"}); return err }},
		{"start", func() error { _, err := c.v3.Start(ctx, &taskv3.StartRequest{ID: "unknown"}); return err }},
		{"kill", func() error { _, err := c.v3.Kill(ctx, &taskv3.KillRequest{ID: "unknown", Signal: 9}); return err }},
		{"delete", func() error { _, err := c.v3.Delete(ctx, &taskv3.DeleteRequest{ID: "unknown"}); return err }},
		{"exec", func() error {
			_, err := c.v3.Exec(ctx, &taskv3.ExecProcessRequest{ID: "unknown", ExecID: "x"})
			return err
		}},
		{"wait", func() error { _, err := c.v3.Wait(ctx, &taskv3.WaitRequest{ID: "unknown"}); return err }},
		{"stats", func() error { _, err := c.v3.Stats(ctx, &taskv3.StatsRequest{ID: "unknown"}); return err }},
		{"pids", func() error { _, err := c.v3.Pids(ctx, &taskv3.PidsRequest{ID: "unknown"}); return err }},
		{"pause", func() error { _, err := c.v3.Pause(ctx, &taskv3.PauseRequest{ID: "unknown"}); return err }},
		{"update", func() error { _, err := c.v3.Update(ctx, &taskv3.UpdateTaskRequest{ID: "unknown"}); return err }},
		{"resize", func() error { _, err := c.v3.ResizePty(ctx, &taskv3.ResizePtyRequest{ID: "unknown"}); return err }},
		{"close stdin", func() error { _, err := c.v3.CloseIO(ctx, &taskv3.CloseIORequest{ID: "unknown"}); return err }},
	}
	for _, tc := range unknown {
		if err := tc.call(); !errdefs.IsNotFound(native(err)) {
			t.Errorf("%s of an unknown task: %v, want not found", tc.name, err)
		}
	}
}

// TestBadRequests: requests that do not fit a task's state, with the class that
// containerd acts upon.
func TestBadRequests(t *testing.T) {
	c := newStarter(t, []string{"sleep", "1000"}).start(t)
	ctx := c.ctx(t)
	if _, err := c.v3.Create(ctx, &taskv3.CreateTaskRequest{ID: c.id, Bundle: c.bundle}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Create(ctx, &taskv3.CreateTaskRequest{ID: c.id, Bundle: c.bundle}); !errdefs.IsAlreadyExists(native(err)) {
		t.Errorf("a second create: %v, want already exists", err)
	}
	if _, err := c.v3.Start(ctx, &taskv3.StartRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		call  func() error
		class func(error) bool
	}{
		{"a second start", func() error { _, err := c.v3.Start(ctx, &taskv3.StartRequest{ID: c.id}); return err }, errdefs.IsFailedPrecondition},
		{"delete of a running task", func() error { _, err := c.v3.Delete(ctx, &taskv3.DeleteRequest{ID: c.id}); return err }, errdefs.IsFailedPrecondition},
		{"resume of a running task", func() error { _, err := c.v3.Resume(ctx, &taskv3.ResumeRequest{ID: c.id}); return err }, errdefs.IsFailedPrecondition},
		{"start of an unknown exec", func() error {
			_, err := c.v3.Start(ctx, &taskv3.StartRequest{ID: c.id, ExecID: "unknown"})
			return err
		}, errdefs.IsNotFound},
		{"exec of a malformed process", func() error {
			_, err := c.v3.Exec(ctx, &taskv3.ExecProcessRequest{ID: c.id, ExecID: "x", Spec: &anypb.Any{Value: []byte("{")}})
			return err
		}, errdefs.IsInvalidArgument},
		{"exec without a process", func() error {
			_, err := c.v3.Exec(ctx, &taskv3.ExecProcessRequest{ID: c.id, ExecID: "x"})
			return err
		}, errdefs.IsInvalidArgument},
		{"an exec id that leaves its directory", func() error {
			_, err := c.v3.Exec(ctx, &taskv3.ExecProcessRequest{ID: c.id, ExecID: "../x", Spec: &anypb.Any{Value: []byte("{}")}})
			return err
		}, errdefs.IsInvalidArgument},
		{"update with malformed resources", func() error {
			_, err := c.v3.Update(ctx, &taskv3.UpdateTaskRequest{ID: c.id, Resources: &anypb.Any{Value: []byte("{")}})
			return err
		}, nil},
		{"a signal that does not exist", func() error {
			_, err := c.v3.Kill(ctx, &taskv3.KillRequest{ID: c.id, Signal: 4096})
			return err
		}, nil},
	} {
		err := tc.call()
		if err == nil {
			t.Errorf("%s: no error", tc.name)
		} else if tc.class != nil && !tc.class(native(err)) {
			t.Errorf("%s: the class of %v is not the one wanted", tc.name, err)
		}
	}
	if state, err := c.v3.State(ctx, &taskv3.StateRequest{ID: c.id}); err != nil || state.ExitStatus != 0 {
		t.Errorf("the task after all that: %v, %v", state, err)
	}
}
