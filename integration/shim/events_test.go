// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	eventtypes "github.com/containerd/containerd/api/events"
	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoin-io/quoin/integration/harness"
)

// daemon is what a shim sees of containerd: a socket that takes its events.
type daemon struct {
	address string

	mu     sync.Mutex
	events []string
}

// listen serves events at a socket of the test's own until its end.
func listen(t *testing.T) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "events")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{address: filepath.Join(dir, "s")}
	listener, err := net.Listen("unix", d.address)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	eventsapi.RegisterTTRPCEventsService(server, d)
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close the events' socket: %v", err)
		}
		<-done
		_ = os.RemoveAll(dir) // /run ends with the package
	})
	return d
}

// Forward implements the events service.
func (d *daemon) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	event, err := typeurl.UnmarshalAny(r.Envelope.Event)
	if err != nil {
		return nil, err
	}
	text := r.Envelope.Topic
	switch e := event.(type) {
	case *eventtypes.TaskExit:
		text += fmt.Sprintf(" %s %d", e.ID, e.ExitStatus)
	case *eventtypes.TaskExecAdded:
		text += " " + e.ExecID
	case *eventtypes.TaskExecStarted:
		text += " " + e.ExecID
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, text)
	return &emptypb.Empty{}, nil
}

func (d *daemon) await(t *testing.T, last string) []string {
	t.Helper()
	var seen []string
	harness.Eventually(t, "the event "+last, func() string {
		d.mu.Lock()
		defer d.mu.Unlock()
		seen = slices.Clone(d.events)
		if !slices.Contains(seen, last) {
			return strings.Join(seen, ", ")
		}
		return ""
	})
	return seen
}

// TestEvents: the order that containerd and CRI rely on. An exec's exit comes
// before the exit of the first process that took it along.
func TestEvents(t *testing.T) {
	s := newStarter(t, []string{"sleep", "1000"})
	c := s.start(t)
	ctx := c.ctx(t)
	if _, err := c.v3.Create(ctx, &taskv3.CreateTaskRequest{ID: c.id, Bundle: c.bundle}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Start(ctx, &taskv3.StartRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	process := &anypb.Any{Value: []byte(`{"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"]}`)}
	if _, err := c.v3.Exec(ctx, &taskv3.ExecProcessRequest{ID: c.id, ExecID: "one", Spec: process}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Start(ctx, &taskv3.StartRequest{ID: c.id, ExecID: "one"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Pause(ctx, &taskv3.PauseRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Resume(ctx, &taskv3.ResumeRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Kill(ctx, &taskv3.KillRequest{ID: c.id, Signal: uint32(syscall.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Wait(ctx, &taskv3.WaitRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Delete(ctx, &taskv3.DeleteRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	got := s.daemon.await(t, "/tasks/delete")
	want := []string{
		"/tasks/create", "/tasks/start", "/tasks/exec-added one", "/tasks/exec-started one", "/tasks/paused", "/tasks/resumed",
		"/tasks/exit one 137", "/tasks/exit " + c.id + " 137", "/tasks/delete",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
