// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/container"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/oci/ocitest"
	"github.com/quoin-io/quoin/shim/reaper"
)

func TestMain(m *testing.M) { ocitest.Main(m) }

var theReaper = sync.OnceValues(reaper.New)

// bed is a served Service whose containers a fake OCI runtime makes.
type bed struct {
	t         testing.TB
	fake      *ocitest.Fake
	set       *container.Set
	socket    string
	heard     atomic.Int64
	changes   atomic.Int64
	shutdowns atomic.Int64
}

func newBed(t testing.TB) *bed {
	t.Helper()
	r, err := theReaper()
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, fake: ocitest.New(t)}
	b.set = container.NewSet(container.Env{
		Namespace:   filepath.Base(b.fake.Root()), // the last part of what the runtime is told
		Reaper:      r,
		Publisher:   nobody{},
		OOM:         nobody{},
		Known:       oci.NewKnown(),
		Deadlines:   config.DefaultDeadlines(),
		RuntimeRoot: filepath.Dir(b.fake.Root()),
		Executable:  "/usr/bin/shim",
	})
	b.serve(NewService(b.set, func(changes bool) {
		b.heard.Add(1)
		if changes {
			b.changes.Add(1)
		}
	}, func() { b.shutdowns.Add(1) }))
	return b
}

// nobody hears of events, and sees no OOM kill.
type nobody struct{}

func (nobody) Publish(string, any, time.Time)   {}
func (nobody) Add(string, *cgroup.Cgroup) error { return nil }
func (nobody) Check(string) bool                { return false }
func (nobody) Ended(string) bool                { return false }
func (nobody) Remove(string)                    {}

func (nobody) State(string) (cgroup.OOMState, bool)                 { return cgroup.OOMState{}, false }
func (nobody) Resume(string, *cgroup.Cgroup, cgroup.OOMState) error { return nil }

// serve serves on a socket until the test ends.
func (b *bed) serve(s *Service) {
	b.t.Helper()
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(Intercept))
	if err != nil {
		b.t.Fatal(err)
	}
	s.Register(server)
	b.socket = filepath.Join(filepath.Dir(b.fake.Binary()), "task")
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	b.t.Cleanup(func() {
		if err := server.Close(); err != nil {
			b.t.Error(err)
		}
		<-done
	})
}

func (b *bed) connect() *ttrpc.Client {
	b.t.Helper()
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	c := ttrpc.NewClient(conn)
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// clients are those of both versions.
func (b *bed) clients() map[string]task.TTRPCTaskService {
	return map[string]task.TTRPCTaskService{
		"v3": task.NewTTRPCTaskClient(b.connect()),
		"v2": &oldClient{taskv2.NewTTRPCTaskClient(b.connect())},
	}
}

// createRequest makes a bundle and asks for a container in it.
func (b *bed) createRequest(id string, args ...string) *task.CreateTaskRequest {
	b.t.Helper()
	return &task.CreateTaskRequest{ID: id, Bundle: ocitest.Bundle(b.t, args...), Options: b.options(b.fake.Binary())}
}

func (b *bed) options(binary string) *anypb.Any {
	b.t.Helper()
	o, err := typeurl.MarshalAnyToProto(&options.Options{BinaryName: binary})
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// running makes a container that runs.
func (b *bed) running(c task.TTRPCTaskService, id string, args ...string) {
	b.t.Helper()
	if _, err := c.Create(b.t.Context(), b.createRequest(id, args...)); err != nil {
		b.t.Fatal(err)
	}
	if _, err := c.Start(b.t.Context(), &task.StartRequest{ID: id}); err != nil {
		b.t.Fatal(err)
	}
}

// remove kills a container and deletes it.
func (b *bed) remove(c task.TTRPCTaskService, id string) {
	b.t.Helper()
	ctx := b.t.Context()
	_, _ = c.Kill(ctx, &task.KillRequest{ID: id, Signal: 9, All: true}) // it may have ended
	if _, err := c.Wait(ctx, &task.WaitRequest{ID: id}); err != nil {
		b.t.Error(err)
	}
	if _, err := c.Delete(ctx, &task.DeleteRequest{ID: id}); err != nil {
		b.t.Error(err)
	}
}
