// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// handler answers with what it holds.
type handler struct {
	info     Info
	asked    UpgradeRequest
	response UpgradeResponse
	err      error
}

func (h *handler) Info(context.Context) (Info, error) { return h.info, h.err }

func (h *handler) Upgrade(_ context.Context, r UpgradeRequest) (UpgradeResponse, error) {
	h.asked = r
	return h.response, h.err
}

// serve serves what register adds, and returns a connected client.
func serve(t *testing.T, register func(*ttrpc.Server)) *Client {
	t.Helper()
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(
		func(ctx context.Context, u ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
			resp, err := m(ctx, u)
			return resp, errgrpc.ToGRPC(err)
		}))
	if err != nil {
		t.Fatal(err)
	}
	register(server)
	address := listen(t, func(l net.Listener) {
		if err := server.Serve(context.Background(), l); !errors.Is(err, ttrpc.ErrServerClosed) {
			t.Error(err)
		}
	}, func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return dial(t, address)
}

func listen(t *testing.T, serve func(net.Listener), stop func()) (address string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); serve(l) }()
	t.Cleanup(func() {
		stop()
		l.Close()
		<-done
	})
	return "unix://" + path
}

func dial(t *testing.T, address string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestInfo(t *testing.T) {
	want := Info{
		Version: "1.2.3", Revision: "abc", PID: 7, Namespace: "k8s.io", ID: "pod",
		Started:    time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Containers: []Container{{ID: "a", Bundle: "/b/a", PID: 8, Status: "running", Execs: 2}},
		Memory:     Memory{RSS: 1 << 33, Private: 5},
		Goroutines: 9, Threads: 4, OpenFiles: 11, Orphans: 2, EventsQueued: 3,
		Totals: Totals{
			Counters: map[string]uint64{ExitsInit: 1 << 60},
			Calls:    map[string]Calls{"create": {Count: 3, Failed: 1, Time: time.Minute}},
			Timeouts: map[string]uint64{"create": 1},
		},
	}
	c := serve(t, func(s *ttrpc.Server) { Register(s, &handler{info: want}) })
	got, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUpgrade(t *testing.T) {
	h := &handler{response: UpgradeResponse{PID: 7, From: Build{Version: "1", Revision: "a"}, To: Build{Version: "2"}}}
	c := serve(t, func(s *ttrpc.Server) { Register(s, h) })
	asked := UpgradeRequest{Path: "/new", Deadline: 3 * time.Second}
	got, err := c.Upgrade(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if got != h.response || h.asked != asked {
		t.Errorf("asked %+v, answered %+v", h.asked, got)
	}
}

func TestErrorsKeepTheirClass(t *testing.T) {
	for _, class := range []error{
		errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrUnavailable, errdefs.ErrNotImplemented,
	} {
		c := serve(t, func(s *ttrpc.Server) { Register(s, &handler{err: fmt.Errorf("busy: a start: %w", class)}) })
		if _, err := c.Info(t.Context()); !errors.Is(err, class) {
			t.Errorf("%v: Info returned %v", class, err)
		}
		if _, err := c.Upgrade(t.Context(), UpgradeRequest{}); !errors.Is(err, class) {
			t.Errorf("%v: Upgrade returned %v", class, err)
		}
	}
}

// A shim that knows only the Task API, as runc's does.
func TestForeignShim(t *testing.T) {
	c := serve(t, func(s *ttrpc.Server) {
		s.RegisterService("containerd.task.v3.Task", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
			"Connect": func(context.Context, func(any) error) (any, error) { return &emptypb.Empty{}, nil },
		}})
	})
	if _, err := c.Info(t.Context()); !errdefs.IsNotImplemented(err) {
		t.Error(err)
	}
}

func TestMessagesOfAnotherKind(t *testing.T) {
	c := serve(t, func(s *ttrpc.Server) {
		s.RegisterService(serviceName, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
			infoMethod: func(context.Context, func(any) error) (any, error) {
				return &anypb.Any{TypeUrl: typeURL[Info](), Value: []byte(`{"pid":"none"}`)}, nil
			},
			upgradeMethod: func(context.Context, func(any) error) (any, error) {
				return &anypb.Any{TypeUrl: "another", Value: []byte(`{}`)}, nil
			},
		}})
	})
	if _, err := c.Info(t.Context()); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if _, err := c.Upgrade(t.Context(), UpgradeRequest{}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

// Fields of a newer version are no error, in either direction.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	got, err := decode[Info](&anypb.Any{TypeUrl: typeURL[Info](), Value: []byte(`{"pid":3,"later":{"x":[1]}}`)})
	if err != nil || got.PID != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A shim that is stopped is connected to by the kernel and never reads.
func TestShimThatDoesNotAnswer(t *testing.T) {
	stopped := make(chan struct{})
	c := dial(t, listen(t, func(net.Listener) { <-stopped }, func() { close(stopped) }))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A shim that dies hangs up.
func TestShimThatHangsUp(t *testing.T) {
	accepted := make(chan struct{})
	c := dial(t, listen(t, func(l net.Listener) {
		defer close(accepted)
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}, func() { <-accepted }))
	if _, err := c.Info(t.Context()); !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
}

func TestDialErrors(t *testing.T) {
	for _, address := range []string{"", "/run/s", "unix://s", "unix:///s\x00", "vsock://1:2"} {
		if _, err := Dial(t.Context(), address); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := Dial(t.Context(), "unix://"+filepath.Join(t.TempDir(), "gone")); !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
}

func TestTotalsAdd(t *testing.T) {
	var sum Totals
	part := Totals{
		Counters: map[string]uint64{Reaped: 2},
		Calls:    map[string]Calls{"kill": {Count: 1, Failed: 1, Time: 3}},
		Timeouts: map[string]uint64{"mount": 1},
	}
	sum.Add(part)
	sum.Add(Totals{})
	kept := sum.Clone()
	sum.Add(Totals{Counters: map[string]uint64{Reaped: 3, OOMKills: 1}, Calls: map[string]Calls{"kill": {Count: 2, Time: 4}}})
	want := Totals{
		Counters: map[string]uint64{Reaped: 5, OOMKills: 1},
		Calls:    map[string]Calls{"kill": {Count: 3, Failed: 1, Time: 7}},
		Timeouts: map[string]uint64{"mount": 1},
	}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(part, kept); diff != "" {
		t.Errorf("a clone changed: %s", diff)
	}
}
