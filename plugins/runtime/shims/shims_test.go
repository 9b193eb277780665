// SPDX-License-Identifier: Apache-2.0

package shims

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/task"
)

// state is a daemon's state directory in a place with short paths.
type state struct {
	t   *testing.T
	dir string
}

func newState(t *testing.T) state {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return state{t, dir}
}

// bundle makes one with files by name.
func (s state) bundle(ns, id string, files map[string]string) Bundle {
	s.t.Helper()
	b := Bundle{ID: id, Path: filepath.Join(s.dir, config.BundlesDir, ns, id)}
	if err := os.MkdirAll(b.Path, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(b.Path, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return b
}

// listen listens at a socket of that name and returns the address.
func (s state) listen(name string) (net.Listener, string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	l, err := net.Listen("unix", path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	return l, "unix://" + path
}

// serve serves what register adds.
func (s state) serve(name string, register func(*ttrpc.Server)) (address string) {
	s.t.Helper()
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(task.Intercept))
	if err != nil {
		s.t.Fatal(err)
	}
	register(server)
	l, address := s.listen(name)
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	s.t.Cleanup(func() {
		if err := server.Close(); err != nil {
			s.t.Error(err)
		}
		<-done
	})
	return address
}

type teller struct {
	control.Handler // but for Info nil: nobody upgrades it

	info control.Info
	err  error
}

func (t teller) Info(context.Context) (control.Info, error) { return t.info, t.err }

func TestFind(t *testing.T) {
	s := newState(t)
	json := func(address string) map[string]string {
		return map[string]string{"bootstrap.json": fmt.Sprintf(`{"version":3,"address":%q,"protocol":"ttrpc"}`, address)}
	}
	a := s.bundle("k8s.io", "pod", json("unix:///p"))
	b := s.bundle("k8s.io", "app", json("unix:///p"))
	old := s.bundle("default", "old", map[string]string{"address": "unix:///o"})
	same := s.bundle("default", "pod", json("unix:///p")) // an address of two namespaces is two shims
	s.bundle("default", "starting", nil)
	s.bundle("default", ".hidden", json("unix:///h"))
	broken := s.bundle("default", "broken", map[string]string{"bootstrap.json": "{"})

	got, err := Find(s.dir)
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("the error of %s: %v", broken.Path, err)
	}
	want := []Shim{
		{Namespace: "default", Address: "unix:///o", Bundles: []Bundle{old}},
		{Namespace: "default", Address: "unix:///p", Bundles: []Bundle{same}},
		{Namespace: "k8s.io", Address: "unix:///p", Bundles: []Bundle{b, a}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Find(filepath.Join(s.dir, "none")); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestAsk(t *testing.T) {
	s := newState(t)
	want := control.Info{Version: "1", PID: 7, Namespace: "ns", ID: "a"}
	_, stuck := s.listen("stuck")
	gone, goneAt := s.listen("gone")
	gone.Close()
	all := []Shim{
		{Namespace: "ns", Address: stuck},
		{Namespace: "ns", Address: s.serve("ok", func(srv *ttrpc.Server) { control.Register(srv, teller{info: want}) })},
		{Namespace: "ns", Address: s.serve("foreign", func(*ttrpc.Server) {})},
		{Namespace: "ns", Address: goneAt},
		{Namespace: "ns", Address: s.serve("failed", func(srv *ttrpc.Server) { control.Register(srv, teller{err: errdefs.ErrInternal}) })},
		{Namespace: "ns", Address: "vsock://3"},
	}
	const patience = 300 * time.Millisecond
	begun := time.Now()
	reports := Ask(t.Context(), all, patience)
	if took := time.Since(begun); took < patience || took > 20*patience {
		t.Errorf("asking took %v", took)
	}
	for i, status := range []Status{Stuck, OK, Foreign, Gone, Failed, Failed} {
		r := reports[i]
		if r.Status != status || r.Address != all[i].Address || (r.Err == nil) != (status == OK) {
			t.Errorf("report %d: %s, %v, want %s", i, r.Status, r.Err, status)
		}
	}
	if diff := cmp.Diff(want, reports[1].Info); diff != "" {
		t.Error(diff)
	}
}

// Many shims are asked at once: none waits for those that do not answer.
func TestAskManyThatAreStuck(t *testing.T) {
	s := newState(t)
	address := s.serve("ok", func(srv *ttrpc.Server) { control.Register(srv, teller{}) })
	_, stuck := s.listen("stuck")
	all := make([]Shim, 0, 200)
	for range 100 {
		all = append(all, Shim{Address: stuck}, Shim{Address: address})
	}
	begun := time.Now()
	reports := Ask(t.Context(), all, 2*time.Second)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("asking took %v", took)
	}
	for i, r := range reports {
		// Connections to a listener that accepts none are refused once its backlog is full.
		if i%2 == 1 && r.Status != OK || i%2 == 0 && r.Status != Stuck && r.Status != Gone {
			t.Errorf("shim %d: %s, %v", i, r.Status, r.Err)
		}
	}
}

func TestCanceled(t *testing.T) {
	s := newState(t)
	_, address := s.listen("stuck")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Ask(ctx, []Shim{{Address: address}}, time.Minute); r[0].Status != Stuck || !errors.Is(r[0].Err, context.Canceled) {
		t.Errorf("%+v", r)
	}
}

func TestIdentify(t *testing.T) {
	s := newState(t)
	alone := s.bundle("ns", "alone", map[string]string{"config.json": `{"annotations":{}}`})
	pod := s.bundle("k8s.io", "app", map[string]string{"config.json": `{"annotations":{
		"io.kubernetes.cri.sandbox-id":"pod", "io.kubernetes.cri.sandbox-name":"dns", "io.kubernetes.cri.sandbox-namespace":"kube-system"}}`})
	unread := s.bundle("ns", "unread", nil)
	for _, tc := range []struct {
		bundles []Bundle
		want    Identity
	}{
		{[]Bundle{alone}, Identity{ID: "alone"}},
		{[]Bundle{pod}, Identity{ID: "pod", Pod: "kube-system/dns"}},
		{[]Bundle{unread}, Identity{ID: "unread"}},
		{[]Bundle{unread, pod}, Identity{ID: "pod", Pod: "kube-system/dns"}},
	} {
		if got := (Shim{Bundles: tc.bundles}).Identify(); got != tc.want {
			t.Errorf("%+v, want %+v", got, tc.want)
		}
	}
}

// The process of a shim is the parent of its containers' first processes, if it
// has a shim's name.
func TestFindProcess(t *testing.T) {
	s := newState(t)
	binary := filepath.Join(s.dir, "containerd-shim-x-v1")
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(shell, binary); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	shim := exec.CommandContext(t.Context(), binary, "-c", "sleep 1000 & echo $!; wait")
	out, err := shim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shim.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p, err := os.FindProcess(child); err == nil {
			_ = p.Kill()
		}
		_ = shim.Wait() // it ends with its child
	})
	ended := s.bundle("ns", "ended", map[string]string{"init.pid": "999999999"})
	stranger := s.bundle("ns", "stranger", map[string]string{"init.pid": strconv.Itoa(shim.Process.Pid)}) // a child of this test
	odd := s.bundle("ns", "odd", map[string]string{"init.pid": "x"})
	runs := s.bundle("ns", "runs", map[string]string{"init.pid": strconv.Itoa(child)})

	got, ok := Shim{Bundles: []Bundle{ended, odd, stranger, runs}}.FindProcess()
	if !ok || got.PID != shim.Process.Pid || got.Stopped || got.Memory.RSS == 0 || got.Memory.Private == 0 {
		t.Errorf("%+v, %t", got, ok)
	}
	if got.Started.Before(before.Add(-time.Second)) || got.Started.After(time.Now().Add(time.Second)) {
		t.Errorf("started at %v", got.Started)
	}
	if err := shim.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !got.Stopped; got, _ = (Shim{Bundles: []Bundle{runs}}).FindProcess() {
		if time.Now().After(deadline) {
			t.Fatal("a stopped shim does not count as stopped")
		}
	}
	if err := shim.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if p, ok := (Shim{Bundles: []Bundle{ended, odd, stranger}}).FindProcess(); ok {
		t.Errorf("a shim without processes has %+v", p)
	}
}
