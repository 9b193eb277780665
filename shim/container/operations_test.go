// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestUnknown(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "sleep", "1000")
	ctx := t.Context()
	for what, err := range map[string]error{
		"state":  second(c.State("x")),
		"wait":   second(c.Wait(ctx, "x")),
		"start":  second(c.Start(ctx, "x")),
		"delete": second(c.Delete(ctx, "x")),
		"kill":   c.Kill(ctx, "x", unix.SIGTERM, false),
		"resize": c.Resize("x", 1, 1),
		"close":  c.CloseStdin("x"),
		"get":    second(b.set.Get("x")),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, cfg := range map[string]ExecConfig{
		"id":      {ID: "../x", Spec: ociProcess("true")},
		"no id":   {Spec: ociProcess("true")},
		"no spec": {ID: "x"},
		"rubbish": {ID: "x", Spec: []byte("{")},
	} {
		if err := c.Exec(ctx, cfg); !errdefs.IsInvalidArgument(err) {
			t.Errorf("exec with %s: %v", what, err)
		}
	}
	if err := c.Update(ctx, []byte("[]")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("update: %v", err)
	}
	if err := c.Kill(ctx, "", 1000, false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("signal 1000: %v", err)
	}
	b.remove(c)
	if _, err := c.Start(ctx, ""); !errdefs.IsNotFound(err) {
		t.Errorf("start of what was deleted: %v", err)
	}
}

func TestPause(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "sleep", "1000")
	ctx := t.Context()
	if err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.status(c, ""); got != Paused {
		t.Errorf("%v", got)
	}
	if err := c.Exec(ctx, ExecConfig{ID: "e", Spec: ociProcess("true")}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("exec in a paused container: %v", err)
	}
	if err := c.Pause(ctx); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("second pause: %v", err)
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.status(c, ""); got != Running {
		t.Errorf("%v", got)
	}
	if err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	b.remove(c)
	want := []string{"create c", "start c", "paused c", "resumed c", "paused c", "exit c", "delete c"}
	if diff := cmp.Diff(want, b.events.names()); diff != "" {
		t.Error(diff)
	}
}

func TestObserve(t *testing.T) {
	b := newBed(t)
	c := b.create("c", "sleep", "1000")
	if err := c.Checkpoint(t.Context(), CheckpointOptions{ImagePath: t.TempDir()}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("checkpoint of what was not started: %v", err)
	}
	b.start(c, "")
	b.exec(c, "e", "sleep", "1000")
	p, err := c.State("e")
	if err != nil {
		t.Fatal(err)
	}
	infos, err := c.Pids(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The fake has no cgroups: the list is that of this test's own.
	if !slices.Contains(infos, ProcessInfo{Pid: p.Pid, Exec: "e"}) {
		t.Errorf("no exec among %v", infos)
	}
	if stats, err := c.Stats(t.Context()); err != nil || !strings.HasPrefix(stats.TypeUrl, "io.containerd.cgroups.v") {
		t.Errorf("%v, %v", stats, err)
	}
	if err := c.Update(t.Context(), []byte(`{"pids":{"limit":5}}`)); err != nil {
		t.Error(err)
	}
	b.remove(c)
}

func TestPidsAfterExit(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "true")
	b.wait(c, "")
	if _, err := c.Pids(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%v", err)
	}
	for what, err := range map[string]error{
		"update":     c.Update(t.Context(), []byte("{}")),
		"pause":      c.Pause(t.Context()),
		"checkpoint": c.Checkpoint(t.Context(), CheckpointOptions{ImagePath: t.TempDir()}),
		"exec":       c.Exec(t.Context(), ExecConfig{ID: "e", Spec: ociProcess("true")}),
		"resize":     c.Resize("", 1, 1),
	} {
		if !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := c.CloseStdin(""); err != nil {
		t.Error(err)
	}
	b.delete(c, "")
}

func TestRestore(t *testing.T) {
	b := newBed(t)
	image := filepath.Join(t.TempDir(), "image")
	old := b.config("c", "sleep", "1000")
	if err := os.Mkdir(filepath.Join(old.Bundle, "work"), 0o700); err != nil { // as containerd does
		t.Fatal(err)
	}
	first := b.createBy(old)
	b.start(first, "")
	if err := first.Checkpoint(t.Context(), CheckpointOptions{ImagePath: image}); err != nil {
		t.Fatal(err)
	}
	b.wait(first, "") // the fake ends what it checkpoints
	b.delete(first, "")

	cfg := b.config("c", "sleep", "1000")
	cfg.Checkpoint = image
	before := takeInventory(t)
	c := b.createBy(cfg)
	if s, err := c.State(""); err != nil || s.Status != Created || s.Pid != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Stats(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("statistics before the restore: %v", err)
	}
	if err := c.Kill(t.Context(), "", unix.SIGTERM, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("kill before the restore: %v", err)
	}
	pid := b.start(c, "")
	if s, err := c.State(""); err != nil || s.Status != Running || s.Pid != pid {
		t.Errorf("%+v, %v", s, err)
	}
	b.remove(c)

	never := b.createBy(cfg)
	b.delete(never, "")
	before.nothingMore(t)
}

func TestRootfs(t *testing.T) {
	b := newBed(t)
	cfg := b.config("c", "sleep", "1000")
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Rootfs = []*types.Mount{{Type: "bind", Source: source, Options: []string{"rbind", "ro"}}}
	inside := filepath.Join(cfg.Bundle, "rootfs", "here")

	b.fake.Set("create", failsOnce)
	if _, _, err := b.set.Create(t.Context(), cfg); err == nil {
		t.Fatal("it was created")
	}
	if _, err := os.Stat(inside); !os.IsNotExist(err) {
		t.Errorf("mounted after a failed create: %v", err)
	}
	c := b.createBy(cfg)
	if _, err := os.Stat(inside); err != nil {
		t.Error(err)
	}
	b.start(c, "")
	b.remove(c)
	if _, err := os.Stat(inside); !os.IsNotExist(err) {
		t.Errorf("mounted after the delete: %v", err)
	}
}

// whenSized is a program that ends once its terminal has 40 lines of 100 characters.
const whenSized = `until [ "$(stty size)" = "40 100" ]; do :; done`

func TestTerminal(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "sleep", "1000")
	b.onTerminal(c, "e", "sh", "-c", whenSized)
	// Asked for before there is a terminal.
	if err := c.Resize("e", 100, 40); err != nil {
		t.Fatal(err)
	}
	b.start(c, "e")
	if e := b.wait(c, "e"); e.Status != 0 {
		t.Errorf("%+v", e)
	}
	b.delete(c, "e")
	b.remove(c)
}

// TestTerminalOfARestore: what was asked for between a create from a checkpoint and the
// start, which makes the terminal, holds.
func TestTerminalOfARestore(t *testing.T) {
	b := newBed(t)
	cfg := b.config("c", "sh", "-c", whenSized)
	path := filepath.Join(cfg.Bundle, "config.json")
	spec, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spec = bytes.Replace(spec, []byte(`"process":{`), []byte(`"process":{"terminal":true,`), 1)
	if err := os.WriteFile(path, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Checkpoint, cfg.Streams = t.TempDir(), Streams{Terminal: true}
	c := b.createBy(cfg)
	if err := c.Resize("", 100, 40); err != nil {
		t.Fatal(err)
	}
	b.start(c, "")
	if e := b.wait(c, ""); e.Status != 0 {
		t.Errorf("%+v", e)
	}
	b.delete(c, "")
}

// TestResizeTogether: however several callers come, the terminal ends with the size
// that was asked for last.
func TestResizeTogether(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "sleep", "1000")
	b.onTerminal(c, "e", "sleep", "1000")
	pid := b.start(c, "e")
	h := c.view.Load().execs["e"].h
	tty, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", pid), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	for round := range 500 {
		var callers sync.WaitGroup
		for n := range uint16(4) {
			callers.Go(func() {
				if err := c.Resize("e", n+1, n+1); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		got, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		want := *h.size
		h.mu.Unlock()
		if (*got != unix.Winsize{Col: want[0], Row: want[1]}) {
			t.Fatalf("round %d: %+v, asked for last was %v", round, *got, want)
		}
	}
	if err := c.Kill(t.Context(), "e", unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.wait(c, "e")
	b.delete(c, "e")
	b.remove(c)
}
