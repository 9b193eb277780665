// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/ledger"
)

func TestLifecycle(t *testing.T) {
	b := newBed(t)
	before := takeInventory(t)
	cfg := b.config("c", "sleep", "1000")
	out := filepath.Join(t.TempDir(), "out")
	c := b.createBy(cfg)
	if got := b.status(c, ""); got != Created {
		t.Errorf("created: %v", got)
	}
	pid := b.start(c, "")
	if s, err := c.State(""); err != nil || s.Status != Running || s.Pid != pid {
		t.Errorf("running: %+v, %v", s, err)
	}
	err := c.Exec(t.Context(), ExecConfig{ID: "e", Spec: ociProcess("sh", "-c", "echo hello; exit 7"), Streams: Streams{Stdout: "file://" + out}})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.status(c, "e"); got != Created {
		t.Errorf("exec added: %v", got)
	}
	execPid := b.start(c, "e")
	if e := b.wait(c, "e"); e.Status != 7 || e.Signal != 0 || e.At.IsZero() {
		t.Errorf("exec: %+v", e)
	}
	if rec, err := ledger.ReadExec(cfg.Bundle, "e"); err != nil || rec.Status != 7 || rec.Pid != execPid {
		t.Errorf("record of the exec: %+v, %v", rec, err)
	}
	if s := b.delete(c, "e"); s.Exit.Status != 7 || s.Pid != execPid {
		t.Errorf("deleted exec: %+v", s)
	}
	if data, err := os.ReadFile(out); err != nil || string(data) != "hello\n" {
		t.Errorf("output %q, %v", data, err)
	}
	if _, err := c.State("e"); !errdefs.IsNotFound(err) {
		t.Errorf("state of a deleted exec: %v", err)
	}

	if err := c.Kill(t.Context(), "", unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if e := b.wait(c, ""); e.Status != 143 || e.Signal != unix.SIGTERM {
		t.Errorf("exit: %+v", e)
	}
	if err := c.Kill(t.Context(), "", unix.SIGTERM, false); !errdefs.IsNotFound(err) {
		t.Errorf("kill of what has ended: %v", err)
	}
	if s := b.delete(c, ""); s.Exit.Status != 143 || s.Pid != pid {
		t.Errorf("deleted: %+v", s)
	}
	if _, err := b.set.Get("c"); !errdefs.IsNotFound(err) {
		t.Errorf("get after delete: %v", err)
	}
	want := []string{"create c", "start c", "added e", "exec e", "exit e", "exit c", "delete c"}
	if diff := cmp.Diff(want, b.events.names()); diff != "" {
		t.Error(diff)
	}
	if got := b.oom.watched(); len(got) > 0 {
		t.Errorf("still watched: %v", got)
	}
	if got := files(t, b.fake.Root()); len(got) > 0 {
		t.Errorf("the runtime still knows %v", got)
	}
	left := slices.DeleteFunc(files(t, cfg.Bundle), func(f string) bool {
		return slices.Contains([]string{"config.json", "options.json", "shim-binary-path", "exit.json", "init.pid", "log.json", "runtime"}, f)
	})
	if len(left) > 0 {
		t.Errorf("left in the bundle: %v", left)
	}
	before.nothingMore(t)
}

func TestExitStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		status int
		signal unix.Signal
	}{
		"success":  {"exit 0", 0, 0},
		"failure":  {"exit 3", 3, 0},
		"highest":  {"exit 255", 255, 0},
		"like 137": {"exit 137", 137, 0},
		"SIGKILL":  {"kill -KILL $$", 137, unix.SIGKILL},
		"SIGSEGV":  {"kill -SEGV $$", 139, unix.SIGSEGV},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			cfg := b.config("c", "sh", "-c", tc.script)
			c := b.createBy(cfg)
			pid := b.start(c, "")
			e := b.wait(c, "")
			// What Wait has told is on disk already.
			rec, err := ledger.Read(cfg.Bundle)
			if err != nil || rec.Status != e.Status || !rec.At.Equal(e.At) || rec.Pid != pid || rec.Signal != int(tc.signal) {
				t.Errorf("record %+v, %v; exit %+v", rec, err, e)
			}
			if e.Status != tc.status || e.Signal != tc.signal {
				t.Errorf("%+v", e)
			}
			if s := b.delete(c, ""); s.Exit != e {
				t.Errorf("deleted with %+v", s)
			}
			names := b.events.names()
			if diff := cmp.Diff([]string{"create c", "start c", "exit c", "delete c"}, names); diff != "" {
				t.Error(diff)
			}
			exit := b.events.events[2].(*events.TaskExit)
			if exit.ExitStatus != uint32(tc.status) || int(exit.Pid) != pid || !exit.ExitedAt.AsTime().Equal(e.At) {
				t.Errorf("event %v", exit)
			}
		})
	}
}

// TestQuickExit: processes that end before the runtime's create or start has
// returned, over and over.
func TestQuickExit(t *testing.T) {
	b := newBed(t)
	for range 20 {
		c := b.running("c", "true")
		b.exec2(c)
		if e := b.wait(c, ""); e.Status != 0 {
			t.Fatalf("%+v", e)
		}
		b.delete(c, "")
	}
	names := b.events.names()
	for i, name := range names {
		if name == "exit c" && !slices.Contains(names[max(0, i-6):i], "start c") {
			t.Fatalf("an exit before its start: %v", names[max(0, i-6):i+1])
		}
	}
}

// exec2 runs an exec in a container that is ending: it runs or is refused.
func (b *bed) exec2(c *Container) {
	b.t.Helper()
	if err := c.Exec(b.t.Context(), ExecConfig{ID: "quick", Spec: ociProcess("true")}); err != nil {
		if !errdefs.IsFailedPrecondition(err) {
			b.t.Errorf("exec: %v", err)
		}
		return
	}
	if _, err := c.Start(b.t.Context(), "quick"); err != nil && !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
		b.t.Errorf("start of the exec: %v", err)
	}
}

func TestDeleteCreated(t *testing.T) {
	b := newBed(t)
	before := takeInventory(t)
	c := b.create("c", "sleep", "1000")
	b.add(c, "e", "true")
	if s := b.delete(c, ""); s.Exit.Status != 137 {
		t.Errorf("%+v", s)
	}
	if diff := cmp.Diff([]string{"create c", "added e", "exit c", "delete c"}, b.events.names()); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Wait(t.Context(), "e"); !errdefs.IsNotFound(err) {
		t.Errorf("wait for an exec that went with its container: %v", err)
	}
	before.nothingMore(t)
}

func TestKillBeforeStart(t *testing.T) {
	b := newBed(t)
	c := b.create("c", "sleep", "1000")
	b.add(c, "e", "true")
	if err := c.Kill(t.Context(), "e", unix.SIGTERM, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("kill of an exec that was not started: %v", err)
	}
	if err := c.Kill(t.Context(), "", unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
	if e := b.wait(c, ""); e.Status != 137 {
		t.Errorf("%+v", e)
	}
	if _, err := c.Start(t.Context(), ""); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("start of what has ended: %v", err)
	}
	b.delete(c, "")
}

func second[T any](_ T, err error) error { return err }

// TestOOMWhereTheCgroupIsGone: an init that was killed, and not by us, may have
// been the victim of an OOM kill that its cgroup can no longer tell of.
func TestOOMWhereTheCgroupIsGone(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(*Container, int) error
		want bool
	}{
		"killed by somebody": {func(_ *Container, pid int) error { return unix.Kill(pid, unix.SIGKILL) }, true},
		"killed by us":       {func(c *Container, _ int) error { return c.Kill(t.Context(), "", unix.SIGKILL, false) }, false},
		"ended otherwise":    {func(_ *Container, pid int) error { return unix.Kill(pid, unix.SIGTERM) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			cfg := b.config("c", "sleep", "1000")
			c := b.createBy(cfg)
			pid := b.start(c, "")
			b.oom.mu.Lock()
			b.oom.ended = func(id string) { b.set.OOMKilled(id) }
			b.oom.mu.Unlock()
			if err := tc.end(c, pid); err != nil {
				t.Fatal(err)
			}
			b.wait(c, "")
			if rec, err := ledger.Read(cfg.Bundle); err != nil || rec.OOM != tc.want {
				t.Errorf("%+v, %v; want OOM %t", rec, err, tc.want)
			}
			b.delete(c, "")
		})
	}
}

func TestOOM(t *testing.T) {
	b := newBed(t)
	cfg := b.config("c", "sleep", "1000")
	c := b.createBy(cfg)
	b.start(c, "")
	b.oom.mu.Lock()
	b.oom.checked = func(id string) { b.set.OOMKilled(id) } // the kernel's notice comes late
	b.oom.mu.Unlock()
	b.set.OOMKilled("somebody else")
	if err := c.Kill(t.Context(), "", unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.wait(c, "")
	if rec, err := ledger.Read(cfg.Bundle); err != nil || !rec.OOM {
		t.Errorf("%+v, %v", rec, err)
	}
	b.events.await(t, "exit c")
	if diff := cmp.Diff([]string{"create c", "start c", "oom c", "exit c"}, b.events.names()); diff != "" {
		t.Error(diff)
	}
	b.delete(c, "")
}

func TestSeal(t *testing.T) {
	b := newBed(t)
	c := b.create("c", "sleep", "1000")
	if b.set.Seal() {
		t.Fatal("sealed with a container in it")
	}
	b.delete(c, "")
	for range 2 {
		if !b.set.Seal() {
			t.Fatal("not sealed")
		}
	}
	if _, _, err := b.set.Create(t.Context(), b.config("d", "true")); !errdefs.IsUnavailable(err) {
		t.Errorf("create in a sealed set: %v", err)
	}
	if b.set.Len() != 0 {
		t.Errorf("%d containers", b.set.Len())
	}
}

// within wants something to be done at once: it must not wait for an operation.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	begun := time.Now()
	f()
	if took := time.Since(begun); took > limit {
		t.Errorf("%s took %v", what, took)
	}
}
