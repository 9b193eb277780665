// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/runtime/task/v3"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/ledger"
	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// runDelete runs the action delete and returns what it says.
func (b *bed) runDelete(args ...string) *task.DeleteResponse {
	b.t.Helper()
	r := b.run(nil, append(args, "delete")...)
	if r.code != 0 || r.stderr != "" {
		b.t.Fatalf("%+v", r)
	}
	var resp task.DeleteResponse
	if err := proto.Unmarshal(r.stdout, &resp); err != nil {
		b.t.Fatal(err)
	}
	return &resp
}

// withOptions leaves in the bundle what a create leaves there.
func (b *bed) withOptions() {
	b.t.Helper()
	o, err := bundle.Open(b.bundle)
	if err == nil {
		err = o.WriteOptions(bundle.Options{BinaryName: b.fake.Binary(), Root: filepath.Dir(b.fake.Root())})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestDelete: the recorded exit is told, by whoever asks, and without one that
// nobody knows.
func TestDelete(t *testing.T) {
	b := newBed(t)
	b.withOptions()
	begun := time.Now().Add(-time.Second)
	if resp := b.runDelete(); resp.ExitStatus != ledger.UnknownStatus || resp.Pid != 0 || resp.ExitedAt.AsTime().Before(begun) {
		t.Errorf("nothing was made: %v", resp)
	}
	at := time.Now().Add(-time.Hour).UTC()
	if err := ledger.Record(b.bundle, ledger.Exit{At: at, Pid: 4242, Status: 3}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if resp := b.runDelete(); resp.ExitStatus != 3 || resp.Pid != 4242 || !resp.ExitedAt.AsTime().Equal(at) {
			t.Errorf("with a record: %v", resp)
		}
	}
	if resp := b.runDelete("-bundle", b.bundle); resp.ExitStatus != 3 {
		t.Errorf("with a flag: %v", resp)
	}
	if steps := b.fake.Steps(); len(steps) > 0 {
		t.Errorf("nothing is left, and yet the runtime was asked to %v", steps)
	}
	if err := os.WriteFile(filepath.Join(b.bundle, "exit.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := b.run(nil, "delete")
	var resp task.DeleteResponse
	if err := proto.Unmarshal(r.stdout, &resp); err != nil || r.code != 0 || resp.ExitStatus != ledger.UnknownStatus || !strings.Contains(r.stderr, "exit.json") {
		t.Errorf("with a rubbish record: %+v, %v", r, err)
	}
}

// TestDeleteUnknown: the container ended after its shim, and nobody held on to it.
// That is said, and said the same way again.
func TestDeleteUnknown(t *testing.T) {
	b := newBed(t)
	b.withOptions()
	// A process that was there and is gone.
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := ledger.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := ledger.RecordBirth(b.bundle, ledger.Birth{Shim: id, Process: id}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	r := b.run(nil, "delete")
	var resp task.DeleteResponse
	if err := proto.Unmarshal(r.stdout, &resp); err != nil || r.code != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if resp.ExitStatus != ledger.UnknownStatus || int(resp.Pid) != id.Pid || resp.ExitedAt.AsTime().Before(begun) || !strings.Contains(r.stderr, "unknown") {
		t.Errorf("%v; %s", &resp, r.stderr)
	}
	if e, err := ledger.Read(b.bundle); err != nil || !e.Unknown || e.Status != ledger.UnknownStatus {
		t.Errorf("record %+v, %v", e, err)
	}
	if again := b.runDelete(); again.ExitStatus != resp.ExitStatus || !again.ExitedAt.AsTime().Equal(resp.ExitedAt.AsTime()) {
		t.Errorf("first %v, then %v", &resp, again)
	}
}

// TestDeleteSparesOthers: a later process of the init's pid is not the container's.
func TestDeleteSparesOthers(t *testing.T) {
	b := newBed(t)
	b.withOptions()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	id, err := ledger.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	id.Start--
	if err := ledger.RecordBirth(b.bundle, ledger.Birth{Shim: id, Process: id}); err != nil {
		t.Fatal(err)
	}
	r := b.run(nil, "delete")
	var resp task.DeleteResponse
	if err := proto.Unmarshal(r.stdout, &resp); err != nil || resp.ExitStatus != ledger.UnknownStatus {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := ledger.Identify(cmd.Process.Pid); err != nil {
		t.Errorf("it was killed: %v", err)
	}
}

// TestDeleteAfterKill: the shim was killed, its container goes on. The delete
// ends it and unmounts its root.
func TestDeleteAfterKill(t *testing.T) {
	b := newBed(t)
	s := b.start()
	pid := s.run(b)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	rootfs := filepath.Join(b.bundle, "rootfs")
	if err := os.Mkdir(rootfs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", rootfs, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(rootfs, unix.MNT_DETACH) })
	s.signal(unix.SIGKILL)
	s.awaitEnd()
	if resp := b.runDelete(); resp.ExitStatus != 137 || int(resp.Pid) != pid {
		t.Errorf("%v", resp)
	}
	eventually(t, "the container is ended", func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
		return err == nil && n == 1
	})
	if e, err := ledger.Read(b.bundle); err != nil || e.Unknown || e.Signal != 9 || e.Pid != pid || e.Learnt == "" {
		t.Errorf("record %+v, %v", e, err)
	}
	if left, err := os.ReadDir(b.fake.Root()); err != nil || len(left) > 0 {
		t.Errorf("the runtime still knows %v, %v", left, err)
	}
	if err := unix.Unmount(rootfs, 0); err != unix.EINVAL {
		t.Errorf("the rootfs is mounted: %v", err)
	}
	// A start afterwards finds nothing in its way.
	if again := b.start(); again.pid == s.pid {
		t.Error("the dead shim")
	}
}

// TestDeleteAfterExit: the shim was killed after its container had ended.
func TestDeleteAfterExit(t *testing.T) {
	b := newBed(t, "sh", "-c", "exit 5")
	s := b.start()
	s.run(b)
	w, err := s.Wait(t.Context(), &task.WaitRequest{ID: b.id})
	if err != nil || w.ExitStatus != 5 {
		t.Fatalf("%v, %v", w, err)
	}
	s.signal(unix.SIGKILL)
	s.awaitEnd()
	if resp := b.runDelete(); resp.ExitStatus != 5 || !resp.ExitedAt.AsTime().Equal(w.ExitedAt.AsTime()) {
		t.Errorf("%v, waited for %v", resp, w)
	}
}

// TestDeleteOfAStoppedShim: a shim that does not answer is ended with its container;
// without a note of its address nobody can ask it to do so itself.
func TestDeleteOfAStoppedShim(t *testing.T) {
	b := newBed(t)
	s := b.start()
	pid := s.run(b)
	s.signal(unix.SIGSTOP)
	r := b.run(nil, "delete")
	var resp task.DeleteResponse
	if err := proto.Unmarshal(r.stdout, &resp); err != nil || r.code != 0 || resp.ExitStatus != 137 || int(resp.Pid) != pid {
		t.Errorf("%+v, %v, %v", r, &resp, err)
	}
	s.awaitEnd()
}

// TestDeleteOfALivingShim: one that answers, at the latest when it goes on, ends its
// container itself, and itself.
func TestDeleteOfALivingShim(t *testing.T) {
	for name, stop := range map[string]bool{"running": false, "stopped": true} {
		t.Run(name, func(t *testing.T) { deleteOfALivingShim(t, stop) })
	}
}

func deleteOfALivingShim(t *testing.T, stop bool) {
	b := newBed(t)
	b.env = []string{config.CleanupEnv + "=1m"}
	s := b.start()
	pid := s.run(b)
	if stop {
		s.signal(unix.SIGSTOP)
	}
	if err := os.WriteFile(filepath.Join(b.bundle, "bootstrap.json"), []byte(`{"address":"`+s.address+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if resp := b.runDelete(); resp.ExitStatus != 137 || int(resp.Pid) != pid {
		t.Errorf("%v", resp)
	}
	s.awaitEnd()
	if e, err := ledger.Read(b.bundle); err != nil || e.Learnt != "" {
		t.Errorf("the shim has recorded %+v, %v", e, err)
	}
}

// TestDeleteOfOneOfMany: a shim that answers is not ended for one of its containers.
// One that it has forgotten is cleaned up after; one that it is creating it ends, once
// it can.
func TestDeleteOfOneOfMany(t *testing.T) {
	b := newBed(t)
	s := b.start()
	pid := s.run(b)
	other := *b
	other.id = "d"
	other.bundle = filepath.Join(t.TempDir(), other.id)
	if err := os.Rename(ocitest.Bundle(t, "sleep", "1000"), other.bundle); err != nil {
		t.Fatal(err)
	}
	other.withOptions()
	if err := os.WriteFile(filepath.Join(other.bundle, "bootstrap.json"), []byte(`{"address":"`+s.address+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if state, err := s.State(t.Context(), &task.StateRequest{ID: b.id}); err != nil || int(state.Pid) != pid || state.Status != tasktypes.Status_RUNNING || s.ended(0) {
			t.Fatalf("the other container: %v, %v", state, err)
		}
	}

	self, err := ledger.Identify(s.pid)
	if err == nil {
		err = ledger.RecordBirth(other.bundle, ledger.Birth{Shim: self})
	}
	if err != nil {
		t.Fatal(err)
	}
	if resp := other.runDelete(); resp.ExitStatus != ledger.UnknownStatus || resp.Pid != 0 {
		t.Errorf("one that was forgotten: %v", resp)
	}
	check()

	gate := b.fake.Gate("create")
	created := make(chan error, 1)
	go func() {
		_, err := s.Create(t.Context(), &task.CreateTaskRequest{ID: other.id, Bundle: other.bundle, Options: b.options()})
		created <- err
	}()
	<-gate.Reached()
	other.env = []string{config.CleanupEnv + "=2s"}
	want := fmt.Sprintf("the shim %d is not done with container %q, and stays for 1 that it serves besides", s.pid, other.id)
	if r := other.run(nil, "delete"); r.code != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("one that is being created: %+v, want %q", r, want)
	}
	check()
	gate.Open()
	if err := <-created; err != nil {
		t.Errorf("create: %v", err)
	}
	eventually(t, "the shim has ended the container", func() bool {
		_, err := s.State(t.Context(), &task.StateRequest{ID: other.id})
		return err != nil
	})
	check()
	if resp := other.runDelete(); resp.ExitStatus != 137 {
		t.Errorf("afterwards: %v", resp)
	}
	check()
}

// TestDeleteOfReplaced: while a cleanup goes on, the daemon removes the bundle and
// makes a new container of that id. That one is left alone; of the old one the
// processes end.
func TestDeleteOfReplaced(t *testing.T) {
	b := newBed(t)
	s := b.start()
	// The old one's: a process and a shim, which lives, so that the cleanup waits for it.
	old := exec.Command("sleep", "1000")
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	shim, err := ledger.Identify(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	process, err := ledger.Identify(old.Process.Pid)
	if err == nil {
		err = ledger.RecordBirth(b.bundle, ledger.Birth{Shim: shim, Process: process})
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(b.bundle, "bootstrap.json"), []byte(`{"address":"`+s.address+`"}`), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &command{namespace: b.ns, id: b.id}
	opened, err := bundle.Open(b.bundle)
	if err != nil {
		t.Fatal(err)
	}
	d := c.newDeletion(t.Context(), opened)
	defer d.close()
	if err := os.Rename(b.bundle, b.bundle+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(ocitest.Bundle(t, "sleep", "1000"), b.bundle); err != nil {
		t.Fatal(err)
	}
	pid := s.run(b)
	if _, err := d.end(t.Context()); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "another container has the bundle") {
		t.Errorf("%v", err)
	}
	if state, err := s.State(t.Context(), &task.StateRequest{ID: b.id}); err != nil || int(state.Pid) != pid || state.Status != tasktypes.Status_RUNNING {
		t.Errorf("the new one: %v, %v", state, err)
	}
	if err := old.Wait(); err == nil || old.ProcessState.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("the old one's process: %v", err)
	}
}

// TestDeleteTellsTheRest: what the shim had not told, and the exits of execs that
// died with it, are handed to the daemon in order, and what containerd tells itself
// is not.
func TestDeleteTellsTheRest(t *testing.T) {
	b := newBed(t)
	d := newEventDaemon(t)
	b.env = []string{"TTRPC_ADDRESS=" + d.path}
	s := b.startWith(func(p *bootapi.BootstrapParams) { p.ContainerdTtrpcAddress = d.path })
	s.run(b)
	spec := &anypb.Any{Value: []byte(`{"cwd":"/","user":{"uid":0,"gid":0},"args":["sleep","1000"],"env":["PATH=` + os.Getenv("PATH") + `"]}`)}
	if _, err := s.Exec(t.Context(), &task.ExecProcessRequest{ID: b.id, ExecID: "e", Spec: spec}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(t.Context(), &task.StartRequest{ID: b.id, ExecID: "e"}); err != nil {
		t.Fatal(err)
	}
	s.signal(unix.SIGKILL)
	s.awaitEnd()
	d.serve()
	if resp := b.runDelete(); resp.ExitStatus != 137 {
		t.Errorf("%v", resp)
	}
	want := []string{"/tasks/create c", "/tasks/start c", "/tasks/exec-added c", "/tasks/exec-started c", "/tasks/exit c e 137"}
	if got := d.received(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if e, err := ledger.ReadExec(b.bundle, "e"); err != nil || e.Status != 137 || e.Unknown {
		t.Errorf("record of the exec: %+v, %v", e, err)
	}
	b.runDelete()
	if got := d.received(); len(got) != len(want) {
		t.Errorf("told again: %q", got)
	}
}

func TestBadDelete(t *testing.T) {
	b := newBed(t)
	for name, args := range map[string][]string{
		"missing bundle": {"-bundle", "/no/such/bundle", "delete"},
		"a file":         {"-bundle", filepath.Join(b.bundle, "config.json"), "delete"},
		"an id":          {"-id", "../c", "delete"},
		"no id":          {"-id", "", "delete"},
	} {
		if r := b.run(nil, args...); r.code != 1 || len(r.stdout) > 0 || r.stderr == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestDeleteWithoutRuntime: what can be done and told is, when the runtime fails.
func TestDeleteWithoutRuntime(t *testing.T) {
	b := newBed(t)
	o, err := bundle.Open(b.bundle)
	if err == nil {
		err = o.WriteOptions(bundle.Options{BinaryName: "no-such-runtime", Root: filepath.Dir(b.fake.Root())})
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(b.fake.Root(), b.id), 0o700)
	}
	if err == nil {
		err = ledger.Record(b.bundle, ledger.Exit{At: time.Now(), Pid: 1, Status: 9})
	}
	if err != nil {
		t.Fatal(err)
	}
	r := b.run(nil, "delete")
	var resp task.DeleteResponse
	if err := proto.Unmarshal(r.stdout, &resp); err != nil || r.code != 0 || resp.ExitStatus != 9 || !strings.Contains(r.stderr, "no-such-runtime") {
		t.Errorf("%+v, %v", r, err)
	}
}

// eventDaemon is a daemon's events service.
type eventDaemon struct {
	t    *testing.T
	path string
	mu   sync.Mutex
	got  []string
}

func newEventDaemon(t *testing.T) *eventDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "qd") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &eventDaemon{t: t, path: filepath.Join(dir, "s")}
}

func (d *eventDaemon) serve() {
	d.t.Helper()
	server, err := ttrpc.NewServer()
	if err != nil {
		d.t.Fatal(err)
	}
	eventsapi.RegisterTTRPCEventsService(server, d)
	l, err := net.Listen("unix", d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(context.Background(), l) // ends with Close
	}()
	d.t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
}

func (d *eventDaemon) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	v, err := typeurl.UnmarshalAny(r.Envelope.Event)
	if err != nil {
		return nil, err
	}
	name := r.Envelope.Topic + " " + v.(interface{ GetContainerID() string }).GetContainerID()
	if exit, ok := v.(*eventtypes.TaskExit); ok {
		name += fmt.Sprintf(" %s %d", exit.ID, exit.ExitStatus)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, name)
	return &emptypb.Empty{}, nil
}

func (d *eventDaemon) received() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}
