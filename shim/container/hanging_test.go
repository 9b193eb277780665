// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// TestVanishedClient: the daemon goes away while it creates a container.
func TestVanishedClient(t *testing.T) {
	for _, after := range []bool{false, true} {
		b := newBed(t)
		cfg := b.config("c", "sleep", "1000")
		before := takeInventory(t)
		if after {
			b.fake.Set("create", ocitest.Failpoint{Times: 1, Hang: true, After: true})
		}
		gate := b.fake.Gate("create")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, _, err := b.set.Create(ctx, cfg)
			done <- err
		}()
		<-gate.Reached()
		if after {
			gate.Open()
			eventually(t, "the runtime has made the container", func() bool {
				_, err := os.Stat(filepath.Join(cfg.Bundle, "init.pid"))
				return err == nil
			})
		}
		cancel()
		gate.Open()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		eventually(t, "the gate's connections are closed", func() bool { return len(childProcesses()) == 0 })
		b.nothingLeft(before, cfg)
	}
}

// TestWhileCreateHangs: nothing else waits for it.
func TestWhileCreateHangs(t *testing.T) {
	b := newBed(t)
	gate := b.fake.Gate("create")
	cfg := b.config("c", "sleep", "1000")
	made := make(chan error, 1)
	go func() {
		_, _, err := b.set.Create(t.Context(), cfg)
		made <- err
	}()
	<-gate.Reached()
	c, err := b.set.Get("c")
	if err != nil {
		t.Fatal(err)
	}
	const atOnce = time.Second // it takes microseconds; the machine may be busy
	within(t, atOnce, "the state", func() {
		if got := b.status(c, ""); got != Unknown {
			t.Errorf("%v", got)
		}
	})
	within(t, atOnce, "what is refused", func() {
		for what, err := range map[string]error{
			"kill":   c.Kill(t.Context(), "", unix.SIGKILL, false),
			"start":  second(c.Start(t.Context(), "")),
			"exec":   c.Exec(t.Context(), ExecConfig{ID: "e", Spec: ociProcess("true")}),
			"pause":  c.Pause(t.Context()),
			"update": c.Update(t.Context(), []byte("{}")),
			"stats":  second(c.Stats(t.Context())),
		} {
			if !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	within(t, atOnce, "a second create", func() {
		if _, _, err := b.set.Create(t.Context(), cfg); !errdefs.IsAlreadyExists(err) {
			t.Errorf("%v", err)
		}
	})
	if b.set.Seal() {
		t.Error("sealed while a container is created")
	}
	waited := make(chan error, 1)
	go func() { _, err := c.Wait(t.Context(), ""); waited <- err }()
	gate.Open()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	b.delete(c, "")
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// TestWaitForWhatNeverWas: a failed create releases those that wait, and tells
// them no status.
func TestWaitForWhatNeverWas(t *testing.T) {
	b := newBed(t)
	b.fake.Set("create", failsOnce)
	gate := b.fake.Gate("create")
	made := make(chan error, 1)
	cfg := b.config("c", "true")
	go func() { _, _, err := b.set.Create(t.Context(), cfg); made <- err }()
	<-gate.Reached()
	c, err := b.set.Get("c")
	if err != nil {
		t.Fatal(err)
	}
	waited, deleted := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Wait(t.Context(), ""); waited <- err }()
	go func() { _, err := c.Delete(t.Context(), ""); deleted <- err }()
	gate.Open()
	if err := <-made; err == nil {
		t.Error("it was created")
	}
	if err := <-waited; !errdefs.IsNotFound(err) {
		t.Errorf("wait: %v", err)
	}
	if err := <-deleted; !errdefs.IsNotFound(err) {
		t.Errorf("delete: %v", err)
	}
}

func TestWaitEndsWithItsCaller(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "sleep", "1000")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Wait(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	b.remove(c)
}
