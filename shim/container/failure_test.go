// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

var failsOnce = ocitest.Failpoint{Times: 1, Exit: 1, Message: "it does not want to"}

// impatient ends runtimes that hang, and leaves time to those that do not on a
// machine that is busy.
func impatient(e *Env) {
	e.Deadlines.Create, e.Deadlines.Exec = 3*time.Second, 3*time.Second
}

// unread gives up soon on streams that nobody opens or reads.
func unread(e *Env) {
	const d = 500 * time.Millisecond
	e.Deadlines.Open, e.Deadlines.Drain, e.Deadlines.Linger = d, d, d
}

// TestFailedCreate has the create fail in all ways that a runtime knows. Nothing
// is left but what was in the bundle and what cleans up, and the id is free.
func TestFailedCreate(t *testing.T) {
	for name, tc := range map[string]struct {
		fail ocitest.Failpoint
		says string
		is   func(error) bool
	}{
		"refuses":               {ocitest.Failpoint{Exit: 1, Message: "no such thing"}, "OCI runtime create failed: no such thing", nil},
		"refuses after all":     {ocitest.Failpoint{Exit: 1, Message: "no such thing", After: true}, "no such thing", nil},
		"crashes":               {ocitest.Failpoint{Signal: syscall.SIGKILL}, "killed", nil},
		"crashes after all":     {ocitest.Failpoint{Signal: syscall.SIGKILL, After: true}, "killed", nil},
		"hangs":                 {ocitest.Failpoint{Hang: true}, "did not finish within", isDeadline},
		"hangs after all":       {ocitest.Failpoint{Hang: true, After: true}, "did not finish within", isDeadline},
		"hangs, and so forth":   {ocitest.Failpoint{Hang: true, After: true, Grandchild: true}, "did not finish within", isDeadline},
		"no pid file":           {ocitest.Failpoint{NoPidFile: true}, "pid", nil},
		"rubbish in pid file":   {ocitest.Failpoint{PidFile: "rubbish"}, "pid", nil},
		"negative pid":          {ocitest.Failpoint{PidFile: "-1"}, "pid", nil},
		"pid of nobody":         {ocitest.Failpoint{PidFile: "4194303"}, "4194303", nil},
		"rubbish in its log":    {ocitest.Failpoint{Exit: 1, Log: "{\n\x00"}, "gave no reason", nil},
		"says nothing":          {ocitest.Failpoint{Exit: 1}, "gave no reason", nil},
		"already exists, it is": {ocitest.Failpoint{Exit: 1, Message: "container with given ID already exists"}, "already exists", errdefs.IsAlreadyExists},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, func(e *Env) {
				if tc.fail.Hang {
					impatient(e)
				}
			})
			cfg := b.config("c", "sleep", "1000")
			cfg.Streams.Stdout = "file://" + filepath.Join(t.TempDir(), "out")
			before := takeInventory(t)
			tc.fail.Times = 1
			b.fake.Set("create", tc.fail)
			_, _, err := b.set.Create(t.Context(), cfg)
			if err == nil {
				t.Fatal("it was created")
			}
			if !strings.Contains(err.Error(), tc.says) || tc.is != nil && !tc.is(err) {
				t.Errorf("%v", err)
			}
			b.nothingLeft(before, cfg)

			c := b.createBy(cfg)
			b.start(c, "")
			b.remove(c)
			before.nothingMore(t)
		})
	}
}

func isDeadline(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// nothingLeft checks that a create has left nothing.
func (b *bed) nothingLeft(before inventory, cfg CreateConfig) {
	b.t.Helper()
	if b.set.Len() != 0 {
		b.t.Errorf("%d containers", b.set.Len())
	}
	if names := b.events.names(); len(names) > 0 {
		b.t.Errorf("events of what never was: %v", names)
	}
	if got := b.oom.watched(); len(got) > 0 {
		b.t.Errorf("still watched: %v", got)
	}
	known, err := filepath.Glob(filepath.Join(b.fake.Root(), "*"))
	if err != nil || len(known) > 0 {
		b.t.Errorf("the runtime still knows %v, %v", known, err)
	}
	for _, f := range files(b.t, cfg.Bundle) {
		// The birth stays where the runtime could not be asked to delete anything.
		if !slices.Contains([]string{"birth.json", "config.json", "options.json", "shim-binary-path", "init.pid", "log.json", "rootfs", "runtime"}, f) {
			b.t.Errorf("left in the bundle: %s", f)
		}
	}
	eventually(b.t, "all processes are gone", func() bool { return len(childProcesses()) == 0 })
	before.nothingMore(b.t)
}

// TestFailedBeforeRuntime: creates that do not get as far as a runtime.
func TestFailedBeforeRuntime(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*CreateConfig)
		is     func(error) bool
		says   string
	}{
		"id":              {func(c *CreateConfig) { c.ID = "../c" }, errdefs.IsInvalidArgument, "container id"},
		"relative bundle": {func(c *CreateConfig) { c.Bundle = "c" }, errdefs.IsInvalidArgument, "not absolute"},
		"no bundle":       {func(c *CreateConfig) { c.Bundle += "/none" }, errdefs.IsNotFound, "does not exist"},
		"no spec":         {func(c *CreateConfig) { _ = os.Remove(c.Bundle + "/config.json") }, errdefs.IsNotFound, "config.json"},
		"rubbish spec":    {func(c *CreateConfig) { _ = os.WriteFile(c.Bundle+"/config.json", []byte("{"), 0o600) }, errdefs.IsInvalidArgument, "malformed"},
		"stream":          {func(c *CreateConfig) { c.Streams.Stdout = "gopher:///x" }, errdefs.IsInvalidArgument, "gopher"},
		"no logger":       {func(c *CreateConfig) { c.Streams.Stdout = "binary:///no/such/logger" }, nil, "/no/such/logger"},
		"no runtime":      {func(c *CreateConfig) { c.Options.BinaryName = "no-such-runtime" }, unclassified, `exec: "no-such-runtime": executable file not found in $PATH`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			cfg := b.config("c", "true")
			whole := cfg
			tc.change(&cfg)
			before := takeInventory(t)
			_, _, err := b.set.Create(t.Context(), cfg)
			if err == nil {
				t.Fatal("it was created")
			}
			if !strings.Contains(err.Error(), tc.says) || tc.is != nil && !tc.is(err) {
				t.Errorf("%v", err)
			}
			b.nothingLeft(before, whole)
		})
	}
}

// unclassified is what the runc shim's missing runtime is, and dockerd expects.
func unclassified(err error) bool {
	return !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) && !errdefs.IsFailedPrecondition(err)
}

func TestFailedStart(t *testing.T) {
	b := newBed(t)
	c := b.create("c", "sleep", "1000")
	b.fake.Set("start", failsOnce)
	if _, err := c.Start(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "OCI runtime start failed: it does not want to") {
		t.Errorf("%v", err)
	}
	if got := b.status(c, ""); got != Created {
		t.Errorf("%v", got)
	}
	b.start(c, "") // it can be tried again
	b.remove(c)

	c = b.create("d", "sleep", "1000")
	b.fake.Set("start", failsOnce)
	if _, err := c.Start(t.Context(), ""); err == nil {
		t.Error("it was started")
	}
	if s := b.delete(c, ""); s.Exit.Status != 137 {
		t.Errorf("%+v", s)
	}
}

func TestFailedExec(t *testing.T) {
	for name, fail := range map[string]ocitest.Failpoint{
		"refuses":     {Exit: 1, Message: "not now"},
		"hangs":       {Hang: true},
		"no pid file": {NoPidFile: true},
		"crashes":     {Signal: syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, impatient)
			c := b.running("c", "sleep", "1000")
			before := takeInventory(t)
			fail.Times = 1
			b.fake.Set("exec", fail)
			b.add(c, "e", "true")
			waited := make(chan Exit, 1)
			go func() { e, _ := c.Wait(t.Context(), "e"); waited <- e }()
			if _, err := c.Start(t.Context(), "e"); err == nil {
				t.Fatal("it was started")
			}
			if e := <-waited; e.Status != neverRan {
				t.Errorf("%+v", e)
			}
			if _, err := c.Start(t.Context(), "e"); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("second start: %v", err)
			}
			if err := c.Kill(t.Context(), "e", unix.SIGKILL, false); !errdefs.IsNotFound(err) {
				t.Errorf("kill: %v", err)
			}
			b.delete(c, "e")
			before.nothingMore(t)
			b.exec(c, "e", "true")
			b.wait(c, "e")
			if names := b.events.names(); slices.Contains(names[:len(names)-3], "exit e") {
				t.Errorf("an exit of what never ran: %v", names)
			}
			b.remove(c)
		})
	}
}

// TestStreamsFail: the process exists when its streams turn out not to work.
func TestStreamsFail(t *testing.T) {
	b := newBed(t, unread)
	c := b.running("c", "sleep", "1000")
	before := takeInventory(t)
	out := filepath.Join(t.TempDir(), "out")
	if err := unix.Mkfifo(out, 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody opens the other end.
	if err := c.Exec(t.Context(), ExecConfig{ID: "e", Spec: ociProcess("sleep", "1000"), Streams: Streams{Stdout: out}}); err != nil {
		t.Fatal(err)
	}
	children := len(childProcesses())
	if _, err := c.Start(t.Context(), "e"); !isDeadline(err) {
		t.Errorf("%v", err)
	}
	eventually(t, "the exec was ended", func() bool { return len(childProcesses()) <= children })
	b.delete(c, "e")
	before.nothingMore(t)
	b.remove(c)

	b.events.mu.Lock()
	b.events.events = nil
	b.events.mu.Unlock()
	cfg := b.config("d", "sleep", "1000")
	cfg.Streams.Stdout = out
	before = takeInventory(t)
	if _, _, err := b.set.Create(t.Context(), cfg); !isDeadline(err) {
		t.Errorf("%v", err)
	}
	b.nothingLeft(before, cfg)
}

func TestFailedDelete(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "true")
	b.wait(c, "")
	b.fake.Set("delete", failsOnce)
	if _, err := c.Delete(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "it does not want to") {
		t.Errorf("%v", err)
	}
	if got := b.status(c, ""); got != Stopped {
		t.Errorf("%v", got)
	}
	b.delete(c, "")
	if diff := cmp.Diff([]string{"create c", "start c", "exit c", "delete c"}, b.events.names()); diff != "" {
		t.Error(diff)
	}
}

// TestPanicInCreate: a panic is an error like others, and leaves no more.
func TestPanicInCreate(t *testing.T) {
	b := newBed(t, func(e *Env) { e.OOM = nil }) // it panics once the container is there
	cfg := b.config("c", "sleep", "1000")
	before := takeInventory(t)
	if _, _, err := b.set.Create(t.Context(), cfg); !errdefs.IsInternal(err) {
		t.Errorf("%v", err)
	}
	b.nothingLeft(before, cfg)
}
