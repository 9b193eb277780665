// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

func execSpec(args ...string) *anypb.Any {
	return &anypb.Any{
		TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
		Value:   []byte(`{"cwd":"/","user":{"uid":0,"gid":0},"env":["PATH=` + os.Getenv("PATH") + `"],"args":["` + strings.Join(args, `","`) + `"]}`),
	}
}

// TestMethods calls each method of both versions on the wire.
func TestMethods(t *testing.T) {
	b := newBed(t)
	for version, c := range b.clients() {
		t.Run(version, func(t *testing.T) { eachMethod(t, b, c) })
	}
}

func eachMethod(t *testing.T, b *bed, c task.TTRPCTaskService) {
	ctx := t.Context()
	create := b.createRequest("c", "sleep", "1000")
	made, err := c.Create(ctx, create)
	if err != nil || made.Pid == 0 {
		t.Fatalf("create: %v, %v", made, err)
	}
	state, err := c.State(ctx, &task.StateRequest{ID: "c"})
	if err != nil || state.ID != "c" || state.Bundle != create.Bundle || state.Pid != made.Pid || state.Status != tasktypes.Status_CREATED || state.ExitedAt == nil {
		t.Errorf("state: %v, %v", state, err)
	}
	if s, err := c.Start(ctx, &task.StartRequest{ID: "c"}); err != nil || s.Pid != made.Pid {
		t.Errorf("start: %v, %v", s, err)
	}
	if _, err := c.Exec(ctx, &task.ExecProcessRequest{ID: "c", ExecID: "e", Spec: execSpec("sleep", "1000")}); err != nil {
		t.Errorf("exec: %v", err)
	}
	exec, err := c.Start(ctx, &task.StartRequest{ID: "c", ExecID: "e"})
	if err != nil {
		t.Fatalf("start of the exec: %v", err)
	}
	if s, err := c.State(ctx, &task.StateRequest{ID: "c", ExecID: "e"}); err != nil || s.ID != "e" || s.ExecID != "e" || s.Pid != exec.Pid || s.Status != tasktypes.Status_RUNNING {
		t.Errorf("state of the exec: %v, %v", s, err)
	}
	checkPids(t, c, exec.Pid)
	if s, err := c.Stats(ctx, &task.StatsRequest{ID: "c"}); err != nil || !strings.HasPrefix(s.Stats.GetTypeUrl(), "io.containerd.cgroups.v") {
		t.Errorf("stats: %v, %v", s, err)
	}
	if s, err := c.Connect(ctx, &task.ConnectRequest{ID: "c"}); err != nil || int(s.ShimPid) != os.Getpid() || s.TaskPid != made.Pid {
		t.Errorf("connect: %v, %v", s, err)
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.Mkdir(filepath.Join(create.Bundle, "work"), 0o700); err != nil { // as containerd does
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"resize": func() error { return second(c.ResizePty(ctx, &task.ResizePtyRequest{ID: "c", Width: 80, Height: 25})) },
		"close":  func() error { return second(c.CloseIO(ctx, &task.CloseIORequest{ID: "c", Stdin: true})) },
		"update": func() error {
			return second(c.Update(ctx, &task.UpdateTaskRequest{ID: "c", Resources: &anypb.Any{Value: []byte(`{}`)}}))
		},
		"checkpoint": func() error { return second(c.Checkpoint(ctx, &task.CheckpointTaskRequest{ID: "c", Path: image})) },
		"shutdown":   func() error { return second(c.Shutdown(ctx, &task.ShutdownRequest{ID: "c"})) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	pauseAndResume(t, c)
	if _, err := c.Kill(ctx, &task.KillRequest{ID: "c", ExecID: "e", Signal: 15}); err != nil {
		t.Errorf("kill: %v", err)
	}
	waited, err := c.Wait(ctx, &task.WaitRequest{ID: "c", ExecID: "e"})
	if err != nil || waited.ExitStatus != 143 {
		t.Fatalf("wait: %v, %v", waited, err)
	}
	deleted, err := c.Delete(ctx, &task.DeleteRequest{ID: "c", ExecID: "e"})
	if err != nil || deleted.Pid != exec.Pid || deleted.ExitStatus != 143 || !deleted.ExitedAt.AsTime().Equal(waited.ExitedAt.AsTime()) {
		t.Errorf("delete: %v, %v", deleted, err)
	}
	b.remove(c, "c")
}

func second[T any](_ T, err error) error { return err }

func pauseAndResume(t *testing.T, c task.TTRPCTaskService) {
	t.Helper()
	if _, err := c.Pause(t.Context(), &task.PauseRequest{ID: "c"}); err != nil {
		t.Errorf("pause: %v", err)
	}
	if s, err := c.State(t.Context(), &task.StateRequest{ID: "c"}); err != nil || s.Status != tasktypes.Status_PAUSED {
		t.Errorf("paused: %v, %v", s, err)
	}
	if _, err := c.Resume(t.Context(), &task.ResumeRequest{ID: "c"}); err != nil {
		t.Errorf("resume: %v", err)
	}
}

// checkPids wants the exec among the processes, with its id as clients decode it.
// The fake has no cgroups: the others are this test's own.
func checkPids(t *testing.T, c task.TTRPCTaskService, exec uint32) {
	t.Helper()
	pids, err := c.Pids(t.Context(), &task.PidsRequest{ID: "c"})
	if err != nil {
		t.Fatalf("pids: %v", err)
	}
	i := slices.IndexFunc(pids.Processes, func(p *tasktypes.ProcessInfo) bool { return p.Pid == exec })
	if i < 0 {
		t.Fatalf("no exec among %v", pids)
	}
	var d options.ProcessDetails
	if err := typeurl.UnmarshalTo(pids.Processes[i].Info, &d); err != nil || d.ExecID != "e" {
		t.Errorf("details %v, %v", &d, err)
	}
}

// TestErrors wants each error to have its class, and its words, after the wire.
func TestErrors(t *testing.T) {
	b := newBed(t)
	for version, c := range b.clients() {
		t.Run(version, func(t *testing.T) { eachError(t, b, c) })
	}
}

func eachError(t *testing.T, b *bed, c task.TTRPCTaskService) {
	ctx := t.Context()
	b.running(c, "c", "sleep", "1000")
	defer b.remove(c, "c")
	missing := b.createRequest("missing", "true")
	missing.Options = b.options("no-such-runtime")
	optionless := b.createRequest("optionless", "true")
	optionless.Options = &anypb.Any{TypeUrl: "no.such.Options", Value: []byte("x")}
	for _, tc := range []struct {
		what string
		err  error
		is   func(error) bool
		says string
	}{
		{"state", second(c.State(ctx, &task.StateRequest{ID: "x"})), errdefs.IsNotFound, `container "x"`},
		{"state of an exec", second(c.State(ctx, &task.StateRequest{ID: "c", ExecID: "x"})), errdefs.IsNotFound, `process "x"`},
		{"kill", second(c.Kill(ctx, &task.KillRequest{ID: "x"})), errdefs.IsNotFound, ""},
		{"pids", second(c.Pids(ctx, &task.PidsRequest{ID: "x"})), errdefs.IsNotFound, ""},
		{"wait", second(c.Wait(ctx, &task.WaitRequest{ID: "x"})), errdefs.IsNotFound, ""},
		{"delete", second(c.Delete(ctx, &task.DeleteRequest{ID: "c"})), errdefs.IsFailedPrecondition, "running"},
		{"start", second(c.Start(ctx, &task.StartRequest{ID: "c"})), errdefs.IsFailedPrecondition, "running"},
		{"resume", second(c.Resume(ctx, &task.ResumeRequest{ID: "c"})), errdefs.IsFailedPrecondition, ""},
		{"create", second(c.Create(ctx, b.createRequest("c", "true"))), errdefs.IsAlreadyExists, `container "c"`},
		{"create without id", second(c.Create(ctx, b.createRequest("", "true"))), errdefs.IsInvalidArgument, "id"},
		{"create, options", second(c.Create(ctx, optionless)), errdefs.IsInvalidArgument, "no.such.Options"},
		{"create, runtime", second(c.Create(ctx, missing)), errdefs.IsUnknown, `exec: "no-such-runtime": executable file not found in $PATH`},
		{"create, bundle", second(c.Create(ctx, &task.CreateTaskRequest{ID: "d", Bundle: "/no/such/bundle"})), errdefs.IsNotFound, "/no/such/bundle"},
		{"exec without spec", second(c.Exec(ctx, &task.ExecProcessRequest{ID: "c", ExecID: "e"})), errdefs.IsInvalidArgument, ""},
		{"update", second(c.Update(ctx, &task.UpdateTaskRequest{ID: "c"})), errdefs.IsInvalidArgument, "resources"},
		{"checkpoint", second(c.Checkpoint(ctx, &task.CheckpointTaskRequest{ID: "c"})), errdefs.IsInvalidArgument, "path"},
		{"checkpoint options", second(c.Checkpoint(ctx, &task.CheckpointTaskRequest{ID: "c", Options: &anypb.Any{TypeUrl: "x"}})), errdefs.IsInvalidArgument, ""},
	} {
		if tc.err == nil {
			t.Errorf("%s: no error", tc.what)
			continue
		}
		if err := errgrpc.ToNative(tc.err); !tc.is(err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}

// TestIntercept: what a handler returns is a gRPC status, whatever it is.
func TestIntercept(t *testing.T) {
	for code, err := range map[codes.Code]error{
		codes.DeadlineExceeded: fmt.Errorf("runtime: %w", context.DeadlineExceeded),
		codes.Canceled:         fmt.Errorf("runtime: %w", context.Canceled),
		codes.Unknown:          errors.New("something"),
		codes.NotFound:         fmt.Errorf("container: %w", errdefs.ErrNotFound),
		codes.OK:               nil,
	} {
		resp, got := Intercept(t.Context(), nil, &ttrpc.UnaryServerInfo{FullMethod: "/x"}, func(context.Context, func(any) error) (any, error) {
			return "response", err
		})
		s, ok := grpcstatus.FromError(got)
		if !ok || s.Code() != code || err != nil && !strings.Contains(s.Message(), err.Error()) {
			t.Errorf("%v became %v", err, got)
		}
		if (resp != nil) != (err == nil) {
			t.Errorf("%v with response %v", err, resp)
		}
	}
}

// TestMissingFields: no message may end the shim.
func TestMissingFields(t *testing.T) {
	b := newBed(t)
	c := task.NewTTRPCTaskClient(b.connect())
	b.running(c, "c", "sleep", "1000")
	ctx := t.Context()
	for _, id := range []string{"", "c"} {
		for what, err := range map[string]error{
			"state":      second(c.State(ctx, &task.StateRequest{ID: id})),
			"create":     second(c.Create(ctx, &task.CreateTaskRequest{ID: id})),
			"start":      second(c.Start(ctx, &task.StartRequest{ID: id})),
			"exec":       second(c.Exec(ctx, &task.ExecProcessRequest{ID: id})),
			"update":     second(c.Update(ctx, &task.UpdateTaskRequest{ID: id})),
			"checkpoint": second(c.Checkpoint(ctx, &task.CheckpointTaskRequest{ID: id})),
			"resize":     second(c.ResizePty(ctx, &task.ResizePtyRequest{ID: id})),
			"close":      second(c.CloseIO(ctx, &task.CloseIORequest{ID: id})),
			"kill":       second(c.Kill(ctx, &task.KillRequest{ID: id})),
			"connect":    second(c.Connect(ctx, &task.ConnectRequest{ID: id})),
		} {
			if err := errgrpc.ToNative(err); errdefs.IsInternal(err) {
				t.Errorf("%s of %q: %v", what, id, err)
			}
		}
	}
	b.remove(c, "c")
}

// TestPanic: a handler's panic is an error of that one request.
func TestPanic(t *testing.T) {
	b := &bed{t: t, fake: ocitest.New(t)}
	b.serve(NewService(nil, func(bool) {}, func() {})) // it panics at the set that is not there
	client := b.connect()
	c := task.NewTTRPCTaskClient(client)
	for range 3 {
		_, err := c.State(t.Context(), &task.StateRequest{ID: "c"})
		if err := errgrpc.ToNative(err); !errdefs.IsInternal(err) || !strings.Contains(err.Error(), "Task/State: panic") {
			t.Errorf("%v", err)
		}
	}
	other := task.NewTTRPCTaskClient(b.connect())
	if _, err := other.Kill(t.Context(), &task.KillRequest{ID: "c"}); !errdefs.IsInternal(errgrpc.ToNative(err)) {
		t.Errorf("%v", err)
	}
}

// TestUnknownMethod is what an older shim says to a newer daemon.
func TestUnknownMethod(t *testing.T) {
	b := newBed(t)
	client := b.connect()
	for _, call := range [][2]string{{"containerd.task.v4.Task", "State"}, {"containerd.task.v3.Task", "Levitate"}} {
		err := client.Call(t.Context(), call[0], call[1], &task.StateRequest{}, &task.StateResponse{})
		if !errdefs.IsNotImplemented(errgrpc.ToNative(err)) {
			t.Errorf("%v: %v", call, err)
		}
	}
}

// TestShutdown: the daemon asks after each delete; only an empty shim ends, and
// then takes no container any more.
func TestShutdown(t *testing.T) {
	b := newBed(t)
	c := task.NewTTRPCTaskClient(b.connect())
	ctx := t.Context()
	b.running(c, "c", "sleep", "1000")
	b.running(c, "d", "sleep", "1000")
	for _, id := range []string{"c", "d"} {
		if _, err := c.Shutdown(ctx, &task.ShutdownRequest{ID: id, Now: true}); err != nil {
			t.Error(err)
		}
		if n := b.shutdowns.Load(); n != 0 {
			t.Fatalf("it ends although there is %s", id)
		}
		b.remove(c, id)
	}
	for range 2 {
		if _, err := c.Shutdown(ctx, &task.ShutdownRequest{ID: "d"}); err != nil {
			t.Error(err)
		}
	}
	if n := b.shutdowns.Load(); n == 0 {
		t.Error("it does not end")
	}
	if _, err := c.Create(ctx, b.createRequest("e", "true")); !errdefs.IsUnavailable(errgrpc.ToNative(err)) {
		t.Errorf("create after shutdown: %v", err)
	}
}

// TestHeard: each request shows that the daemon is there.
func TestHeard(t *testing.T) {
	b := newBed(t)
	c := task.NewTTRPCTaskClient(b.connect())
	for i, call := range []func() error{
		func() error { return second(c.State(t.Context(), &task.StateRequest{ID: "c"})) },
		func() error { return second(c.Create(t.Context(), &task.CreateTaskRequest{})) },
		func() error { return second(c.Shutdown(t.Context(), &task.ShutdownRequest{})) },
		func() error { return second(c.Connect(t.Context(), &task.ConnectRequest{})) },
	} {
		_ = call() // most are refused
		if n := b.heard.Load(); n != int64(i+1) {
			t.Errorf("%d requests, %d heard", i+1, n)
		}
	}
	if n := b.changes.Load(); n == 0 || n == 4 {
		t.Errorf("%d of them may have changed something", n)
	}
}

// TestWaitersGoWithTheirConnection: a daemon that dies takes its waits along.
func TestWaitersGoWithTheirConnection(t *testing.T) {
	b := newBed(t)
	first := b.connect()
	c := task.NewTTRPCTaskClient(first)
	b.running(c, "c", "sleep", "1000")
	failed := make(chan error, 1)
	go func() { failed <- second(c.Wait(t.Context(), &task.WaitRequest{ID: "c"})) }()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("it was answered")
	}
	b.remove(task.NewTTRPCTaskClient(b.connect()), "c")
}
