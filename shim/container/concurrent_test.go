// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestInitKilledUnderExecs kills an init while 200 execs are added, started and
// waited for. Each either never starts or is told as started and exited, before
// its init is told as exited.
func TestInitKilledUnderExecs(t *testing.T) {
	const execs = 200
	b := newBed(t)
	before := takeInventory(t)
	c := b.running("c", "sleep", "1000")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	running := make(chan struct{}, execs)
	slots := make(chan struct{}, 16) // of runtimes at a time
	for i := range execs {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			id := fmt.Sprint("e", i)
			if err := c.Exec(ctx, ExecConfig{ID: id, Spec: ociProcess("sleep", "1000")}); err != nil {
				if !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
					t.Errorf("exec: %v", err)
				}
				return
			}
			if _, err := c.Start(ctx, id); err != nil {
				return // the runtime's words vary
			}
			running <- struct{}{}
			wg.Go(func() {
				if e, err := c.Wait(ctx, id); err != nil || e.Status != 137 {
					t.Errorf("wait for %s: %+v, %v", id, e, err)
				}
			})
		})
	}
	for range 20 {
		<-running
	}
	if err := c.Kill(ctx, "", unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if e, err := c.Wait(ctx, ""); err != nil || e.Status != 137 {
		t.Fatalf("%+v, %v", e, err)
	}
	b.events.await(t, "exit c")
	names := b.events.names()
	end := slices.Index(names, "exit c")
	for i, name := range names {
		verb, id, _ := strings.Cut(name, " ")
		switch {
		case verb == "exit" && id != "c" && i > end:
			t.Errorf("%s after its init's", name)
		case verb == "exec" && !slices.Contains(names[i:], "exit "+id):
			t.Errorf("%s never exits", id)
		case verb == "exit" && id != "c" && !slices.Contains(names[:i], "exec "+id):
			t.Errorf("%s exits before it starts", id)
		}
	}
	b.delete(c, "")
	before.nothingMore(t)
}

// TestKillWhileDeleteDrains: an exec's delete waits for a reader of its output;
// the container can be asked, killed and told as dead meanwhile.
func TestKillWhileDeleteDrains(t *testing.T) {
	b := newBed(t)
	before := takeInventory(t)
	c := b.running("c", "sleep", "1000")
	out := filepath.Join(t.TempDir(), "out")
	if err := unix.Mkfifo(out, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(out, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	spec := ociProcess("head", "-c", "50000000", "/dev/zero") // more than all pipes hold
	if err := c.Exec(t.Context(), ExecConfig{ID: "e", Spec: spec, Streams: Streams{Stdout: out}}); err != nil {
		t.Fatal(err)
	}
	awaitFull(t, b.start(c, "e"), reader)
	if err := c.Kill(t.Context(), "e", unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.wait(c, "e")
	deleted := make(chan error, 2)
	for range 2 { // the second joins
		go func() { _, err := c.Delete(t.Context(), "e"); deleted <- err }()
	}
	eventually(t, "the delete is under way", func() bool {
		_, p, err := c.process("e")
		return err == nil && p.phase == phaseDeleting
	})
	within(t, 2*time.Second, "a kill while a delete drains", func() {
		if err := c.Kill(t.Context(), "", unix.SIGKILL, false); err != nil {
			t.Error(err)
		}
		if e := b.wait(c, ""); e.Status != 137 {
			t.Errorf("%+v", e)
		}
		if got := b.status(c, "e"); got != Stopped {
			t.Errorf("%v", got)
		}
		if err := c.Kill(t.Context(), "e", unix.SIGKILL, false); !errdefs.IsNotFound(err) {
			t.Errorf("kill of what is being deleted: %v", err)
		}
	})
	select {
	case err := <-deleted:
		t.Fatalf("the output is not read, and yet it is deleted: %v", err)
	default:
	}
	go func() { // until the test closes it
		buf := make([]byte, 1<<16)
		for {
			if _, err := reader.Read(buf); err != nil {
				return
			}
		}
	}()
	for range 2 {
		if err := <-deleted; err != nil {
			t.Error(err)
		}
	}
	b.delete(c, "")
	reader.Close()
	before.nothingMore(t)
}

// awaitFull waits until a process cannot write, since nobody reads.
func awaitFull(t *testing.T, pid int, reader *os.File) {
	t.Helper()
	conn, err := reader.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	held, still := 0, 0
	eventually(t, "the pipes are full", func() bool {
		now, ierr := 0, error(nil)
		cerr := conn.Control(func(fd uintptr) { now, ierr = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		stat, serr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err := errors.Join(cerr, ierr, serr); err != nil {
			t.Fatal(err)
		}
		asleep := strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')'):]), ") S")
		if now > 0 && now == held && asleep {
			still++
		} else {
			held, still = now, 0
		}
		return still > 20
	})
}

// TestRuntimeDeleteHangs: State, Kill and Wait do not wait for it, a second
// delete does.
func TestRuntimeDeleteHangs(t *testing.T) {
	b := newBed(t)
	c := b.running("c", "true")
	b.wait(c, "")
	gate := b.fake.Gate("delete")
	deleted := make(chan error, 2)
	go func() { _, err := c.Delete(t.Context(), ""); deleted <- err }()
	<-gate.Reached()
	go func() { _, err := c.Delete(t.Context(), ""); deleted <- err }()
	within(t, time.Second, "what does not wait for a delete", func() {
		if got := b.status(c, ""); got != Stopped {
			t.Errorf("%v", got)
		}
		if err := c.Kill(t.Context(), "", unix.SIGKILL, true); !errdefs.IsNotFound(err) {
			t.Errorf("kill: %v", err)
		}
		b.wait(c, "")
		if _, _, err := b.set.Create(t.Context(), b.config("c", "true")); !errdefs.IsAlreadyExists(err) {
			t.Errorf("create: %v", err)
		}
	})
	// A caller that goes away does not end it.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Delete(ctx, "")
	gate.Open()
	for range 2 {
		if err := <-deleted; err != nil {
			t.Error(err)
		}
	}
}

// TestParallelContainers: those of a pod do not know one another.
func TestParallelContainers(t *testing.T) {
	b := newBed(t)
	before := takeInventory(t)
	var wg sync.WaitGroup
	for i := range 12 {
		cfg := b.config(fmt.Sprint("c", i), "sh", "-c", fmt.Sprint("exit ", i))
		wg.Go(func() {
			c, _, err := b.set.Create(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.Start(t.Context(), ""); err != nil {
				t.Error(err)
			}
			if e, err := c.Wait(t.Context(), ""); err != nil || e.Status != i {
				t.Errorf("%d: %+v, %v", i, e, err)
			}
			if _, err := c.Delete(t.Context(), ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if b.set.Len() != 0 {
		t.Errorf("%d containers are left", b.set.Len())
	}
	before.nothingMore(t)
}

// TestOverdueExec: an exec that outlives its init and is not ended holds up the
// init's exit for a bounded time, and goes with its container.
func TestOverdueExec(t *testing.T) {
	b := newBed(t, unread)
	cfg := b.config("c", "sleep", "1000")
	private(t, cfg) // so that the shim leaves it to the kernel, which the fake does not ask
	before := takeInventory(t)
	c := b.createBy(cfg)
	b.start(c, "")
	b.exec(c, "e", "sleep", "1000")
	waited := make(chan error, 1)
	go func() { _, err := c.Wait(t.Context(), "e"); waited <- err }()
	if err := c.Kill(t.Context(), "", unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.wait(c, "")
	if got := b.status(c, "e"); got != Running {
		t.Errorf("%v", got)
	}
	p, err := c.State("e")
	if err != nil {
		t.Fatal(err)
	}
	b.delete(c, "")
	if err := <-waited; !errdefs.IsNotFound(err) {
		t.Errorf("an exit was made up: %v", err)
	}
	if err := unix.Kill(p.Pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	before.nothingMore(t)
}
