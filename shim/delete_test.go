// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/ledger"
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
// the container was killed.
func TestDelete(t *testing.T) {
	b := newBed(t)
	b.withOptions()
	begun := time.Now().Add(-time.Second)
	if resp := b.runDelete(); resp.ExitStatus != 137 || resp.Pid != 0 || resp.ExitedAt.AsTime().Before(begun) {
		t.Errorf("without a record: %v", resp)
	}
	if err := os.WriteFile(filepath.Join(b.bundle, "init.pid"), []byte("4242"), 0o600); err != nil {
		t.Fatal(err)
	}
	if resp := b.runDelete(); resp.ExitStatus != 137 || resp.Pid != 4242 {
		t.Errorf("with a pid file: %v", resp)
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
	if err := proto.Unmarshal(r.stdout, &resp); err != nil || r.code != 0 || resp.ExitStatus != 137 || !strings.Contains(r.stderr, "exit.json") {
		t.Errorf("with a rubbish record: %+v, %v", r, err)
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
