// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// storm puts a helper that forks without end into a cgroup and kills it while
// it does.
func storm(t *testing.T, prepare func(p *process) *Cgroup) {
	t.Helper()
	p := start(t, "idle")
	c := prepare(p)
	p.tell(t, "fork")
	eventually(t, "twenty processes", func() bool { pids, _ := c.Pids(); return len(pids) > 20 })
	must(t, c.Kill(within(t, 30*time.Second), unix.SIGKILL))
	if pids, err := c.Pids(); err != nil || len(pids) > 0 {
		t.Errorf("left: %v, %v", pids, err)
	}
}

func TestKillLegacy(t *testing.T) {
	storm(t, func(p *process) *Cgroup { return makeLegacy(t, p.Process.Pid) })
}

// As runc makes it on a hybrid host: cgroup.kill is there although the
// controllers are in v1.
func TestKillHybrid(t *testing.T) {
	storm(t, func(p *process) *Cgroup { return makeHybrid(t, p) })
}

func makeHybrid(t *testing.T, p *process) *Cgroup {
	t.Helper()
	makeLegacy(t, p.Process.Pid)
	dir := filepath.Join(mountPoint, "unified", testName(t))
	must(t, os.MkdirAll(dir, 0o755))
	must(t, writeFile(dir, "cgroup.procs", strconv.Itoa(p.Process.Pid)))
	c, err := Load(p.Process.Pid)
	must(t, err)
	if c.unified != dir {
		t.Fatalf("the unified cgroup is %q, want %q", c.unified, dir)
	}
	return c
}

// As a runtime makes it that does not join cgroup2 on a hybrid host: there the
// process stays with others, which have nothing to do with it.
func TestKillHybridElsewhere(t *testing.T) {
	other, p := start(t, "idle"), start(t, "idle")
	shared := makeHybrid(t, other)
	must(t, writeFile(shared.unified, "cgroup.procs", strconv.Itoa(p.Process.Pid)))
	dir := filepath.Join(mountPoint, "freezer", testName(t)+"-own")
	must(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { must(t, os.Remove(dir)) })
	must(t, writeFile(dir, "cgroup.procs", strconv.Itoa(p.Process.Pid)))
	c, err := Load(p.Process.Pid)
	must(t, err)
	must(t, c.Kill(within(t, 10*time.Second), unix.SIGKILL))
	_ = p.Wait()
	other.tell(t, "work")
	other.expect(t, "worked")
}

func TestKillUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	storm(t, func(p *process) *Cgroup { return makeUnified(t, p.Process.Pid) })
}

// Before Linux 5.14 there is no cgroup.kill.
func TestKillUnifiedWithoutKillFile(t *testing.T) {
	if !inUnified(t) {
		return
	}
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)
	p.tell(t, "fork")
	eventually(t, "twenty processes", func() bool { pids, _ := c.Pids(); return len(pids) > 20 })
	pids, err := c.Pids()
	must(t, err)
	must(t, c.killAll(within(t, 30*time.Second), pids, false))
	if c.Populated() {
		t.Error("still populated")
	}
}

func TestKillFrozen(t *testing.T) {
	for name, makeIt := range map[string]func(*testing.T, *process) *Cgroup{
		"legacy": func(t *testing.T, p *process) *Cgroup { return makeLegacy(t, p.Process.Pid) },
		"hybrid": makeHybrid,
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "idle")
			c := makeIt(t, p)
			must(t, c.Freeze(within(t, 10*time.Second)))
			must(t, c.Kill(within(t, 10*time.Second), unix.SIGKILL))
			_ = p.Wait()
			if c.Populated() {
				t.Error("still populated")
			}
		})
	}
}

func TestKillFrozenUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)
	must(t, c.Freeze(within(t, 10*time.Second)))
	must(t, c.Kill(within(t, 10*time.Second), unix.SIGKILL))
	if c.Populated() {
		t.Error("still populated")
	}
}

func TestKillWithAnotherSignal(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	must(t, c.Kill(within(t, 10*time.Second), unix.SIGTERM))
	_ = p.Wait()
	if ws := p.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != unix.SIGTERM {
		t.Errorf("ended by %v", p.ProcessState)
	}
}

// A process that cannot die does not hold the caller beyond its deadline: here
// one of another cgroup's freezer keeps it from dying.
func TestKillHonoursContext(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the reason")
	cancel(reason)
	must(t, c.Freeze(within(t, 10*time.Second)))
	// Without the freezer's directory nobody thaws it.
	blind := &Cgroup{mode: Legacy}
	for _, d := range c.legacy {
		if d.controller != "freezer" {
			blind.legacy = append(blind.legacy, d)
		}
	}
	if err := blind.Kill(ctx, unix.SIGKILL); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	needRoot(t)
	got := make(chan os.Signal, 1)
	signal.Notify(got, unix.SIGUSR1)
	defer signal.Stop(got)
	p := start(t, "idle")
	makeLegacy(t, p.Process.Pid)
	top := &Cgroup{mode: Unified, unified: mountPoint + "/unified", top: true}
	// The cgroup above the test's own holds the test itself.
	self, err := Load(os.Getpid())
	must(t, err)
	for name, c := range map[string]*Cgroup{"root": top, "own": self} {
		for doing, err := range map[string]error{
			"kill": c.Kill(t.Context(), unix.SIGUSR1), "freeze": c.Freeze(t.Context()),
		} {
			if !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%s of the %s cgroup: %v", doing, name, err)
			}
		}
	}
	select {
	case <-got:
		t.Error("the test itself was signalled")
	default:
	}
}

func frozenAndBack(t *testing.T, c *Cgroup, p *process) {
	t.Helper()
	must(t, c.Freeze(within(t, 10*time.Second)))
	p.tell(t, "work")
	must(t, p.stdout.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	if n, err := p.stdout.Read(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frozen process answered: %d bytes, %v", n, err)
	}
	must(t, c.Freeze(within(t, 10*time.Second))) // again
	must(t, c.Thaw(within(t, 10*time.Second)))
	p.expect(t, "worked")
	must(t, c.Thaw(within(t, 10*time.Second)))
}

func TestFreezeLegacy(t *testing.T) {
	p := start(t, "idle")
	frozenAndBack(t, makeLegacy(t, p.Process.Pid), p)
}

func TestFreezeUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)
	frozenAndBack(t, c, p)

	// Thawing below a frozen parent cannot succeed; it ends with the context.
	// (A plain sleep: the signals that Go's runtime sends itself make a process
	// leave the frozen state for an instant.)
	q := exec.Command("sleep", "60")
	must(t, q.Start())
	t.Cleanup(func() { _ = q.Process.Kill(); _ = q.Wait() })
	must(t, Join(testName(t)+"/below", q.Process.Pid))
	below, err := Load(q.Process.Pid)
	must(t, err)
	must(t, c.Freeze(within(t, 10*time.Second)))
	if err := below.Thaw(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("thaw below a frozen parent: %v", err)
	}
	must(t, c.Thaw(within(t, 10*time.Second)))
}

// A cgroup is frozen when all below it are, too, also if it has processes itself.
func TestFreezeNestedUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)
	q := exec.Command("/bin/sh", "-c", "while :; do :; done")
	must(t, q.Start())
	t.Cleanup(func() { _ = q.Process.Kill(); _ = q.Wait() })
	must(t, Join(testName(t)+"/a/b", q.Process.Pid))
	below, err := Load(q.Process.Pid)
	must(t, err)
	for n := range 200 {
		must(t, c.Freeze(within(t, 10*time.Second)))
		events, err := os.ReadFile(filepath.Join(below.unified, "cgroup.events"))
		must(t, err)
		if valueOf(events, "frozen") != 1 {
			t.Fatalf("round %d: %s of what is below it", n, events)
		}
		must(t, c.Thaw(within(t, 10*time.Second)))
	}
}

// Freezing while processes are forked is what the v1 freezer stumbles over.
func TestFreezeForkingLegacy(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	p.tell(t, "fork")
	for range 20 {
		must(t, c.Freeze(within(t, 20*time.Second)))
		must(t, c.Thaw(within(t, 20*time.Second)))
	}
}

func TestFreezeWithoutFreezer(t *testing.T) {
	root := fake(t, map[string]string{"memory/cgroup.procs": ""})
	c := &Cgroup{mode: Legacy, legacy: []legacyDir{{controller: "memory", dir: root + "/memory"}}}
	if err := c.Freeze(t.Context()); !errdefs.IsNotImplemented(err) {
		t.Errorf("got %v", err)
	}
}
