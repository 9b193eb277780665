// SPDX-License-Identifier: Apache-2.0

package deaths

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/ledger"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// born makes a bundle whose init is a process that waits to be told to exit.
func born(t *testing.T, dir, id string) (bundle string, init *exec.Cmd, end func()) {
	t.Helper()
	bundle = filepath.Join(dir, "ns", id)
	must(t, os.MkdirAll(bundle, 0o700))
	init = exec.Command("sh", "-c", "read x; exit 7")
	stdin, err := init.StdinPipe()
	must(t, err)
	must(t, init.Start())
	t.Cleanup(func() {
		_ = init.Process.Kill()
		_ = init.Wait() // for the second time, at most
	})
	self, err := ledger.Identify(os.Getpid())
	must(t, err)
	identity, err := ledger.Identify(init.Process.Pid)
	must(t, err)
	must(t, ledger.RecordBirth(bundle, ledger.Birth{Shim: self, Process: identity}))
	return bundle, init, func() {
		must(t, stdin.Close())
		_ = init.Wait() // it exits with 7
	}
}

// TestSettle: an exit that nobody else has seen is put on record with its status and
// the time of the death, once, and one that is there is left.
func TestSettle(t *testing.T) {
	w, err := NewWitnesses()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx)
	}()
	dir := t.TempDir()
	bundle, init, end := born(t, dir, "c")
	other, _, endOther := born(t, dir, "[odd*")
	must(t, os.MkdirAll(filepath.Join(dir, "ns", ".hidden"), 0o700))
	for range 2 {
		w.HoldAll(ctx, dir)
	}
	if w.Len() != 2 {
		t.Errorf("%d are held", w.Len())
	}
	must(t, w.Settle(ctx, bundle))
	must(t, w.Settle(ctx, "/no/such/bundle"))
	if _, err := ledger.Read(bundle); !errdefs.IsNotFound(err) {
		t.Errorf("while it lives: %v", err)
	}

	before := time.Now()
	end()
	for died := false; !died; { // the note of its death comes by another way
		w.mu.Lock()
		died = !w.byBundle[bundle].died.IsZero()
		w.mu.Unlock()
	}
	after := time.Now()
	must(t, w.Settle(ctx, bundle))
	e, err := ledger.Read(bundle)
	if hasExits(t) {
		must(t, err)
		if e.Status != 7 || e.Unknown || e.Pid != init.Process.Pid || e.At.Before(before) || e.At.After(after) {
			t.Errorf("record %+v, want status 7 between %v and %v", e, before, after)
		}
	} else if !errdefs.IsNotFound(err) {
		t.Errorf("record %+v, %v on a kernel that does not tell", e, err)
	}

	must(t, ledger.Record(other, ledger.Exit{At: before, Pid: 1, Status: 3}))
	endOther()
	must(t, w.Settle(ctx, other))
	if e, err := ledger.Read(other); err != nil || e.Status != 3 {
		t.Errorf("the record was replaced by %+v, %v", e, err)
	}
	w.Forget(bundle)
	w.Forget(bundle)
	if w.Len() != 1 {
		t.Errorf("%d are held", w.Len())
	}
	cancel()
	<-ended
	must(t, w.Close())
}

// hasExits says whether this kernel keeps the status of what was reaped.
func hasExits(t *testing.T) bool {
	t.Helper()
	cmd := exec.Command("sh", "-c", "exit 9")
	must(t, cmd.Start())
	id, err := ledger.Identify(cmd.Process.Pid)
	must(t, err)
	w, err := ledger.Watch(id)
	must(t, err)
	defer w.Close()
	_ = cmd.Wait() // it exits with 9
	e, err := w.Exit(t.Context())
	must(t, err)
	return !e.Unknown
}

// TestLateNote: a death that is noted only when its init was forgotten is not the death
// of the one that has its descriptor now.
func TestLateNote(t *testing.T) {
	w, err := NewWitnesses()
	must(t, err)
	dir := t.TempDir()
	first, _, end := born(t, dir, "first")
	w.Hold(t.Context(), first)
	fd := w.byBundle[first].FD()
	end()
	events := make([]unix.EpollEvent, 1)
	if n, err := unix.EpollWait(w.epoll, events, 20_000); n != 1 || err != nil {
		t.Fatalf("%d deaths, %v", n, err)
	}
	second, _, _ := born(t, dir, "second")
	w.Forget(first)
	// The next descriptor is the lowest that is free.
	for w.Hold(t.Context(), second); w.byBundle[second].FD() != fd; w.Hold(t.Context(), second) {
		if other := w.byBundle[second].FD(); other > fd {
			t.Fatalf("the descriptor is %d, want %d again", other, fd)
		}
		w.Forget(second)
		filler, err := os.Open(os.DevNull)
		must(t, err)
		t.Cleanup(func() { filler.Close() })
	}
	w.note(events)
	if died := w.byBundle[second].died; !died.IsZero() {
		t.Errorf("it lives, and its death was noted at %v", died)
	}
	must(t, w.Close())
}

// TestHoldNothing: bundles without a birth, or whose init is gone, are left alone.
func TestHoldNothing(t *testing.T) {
	w, err := NewWitnesses()
	must(t, err)
	dir := t.TempDir()
	w.Hold(t.Context(), dir)
	bundle, _, end := born(t, dir, "gone")
	end()
	w.Hold(t.Context(), bundle)
	if w.Len() != 0 {
		t.Errorf("%d are held", w.Len())
	}
	must(t, w.Close())
}
