// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// hasty ends everything that hangs; what does not has time enough, also on a machine
// that does much else.
func hasty(e *Env) {
	const d = 2 * time.Second
	e.Deadlines.Mount, e.Deadlines.Open, e.Deadlines.Logger, e.Deadlines.Terminate = d, d, d, d/20
	e.Deadlines.Start, e.Deadlines.Delete, e.Deadlines.Drain, e.Deadlines.Control = time.Minute, 10*time.Second, d, 10*time.Second
}

// stuckMeter collects the names of the steps that were overdue.
type stuckMeter struct {
	unmetered
	steps chan string
}

func (m stuckMeter) Overdue(step string) { m.steps <- step }

// TestHungFileSystem: what a client names may be on a file system that does not
// answer. The error says which step waited and how long, the id is free again, and
// the other container of the pod does not notice.
func TestHungFileSystem(t *testing.T) {
	newBed(t) // and with it what stays as long as the process
	before := takeInventory(t)
	t.Cleanup(func() { before.nothingMore(t) }) // once the file system answers
	hung := ocitest.HungDir(t)
	for name, tc := range map[string]struct {
		change func(*CreateConfig)
		says   string
		step   string
	}{
		"rootfs": {func(c *CreateConfig) {
			c.Rootfs = []*types.Mount{{Type: "bind", Source: hung + "/rootfs", Options: []string{"bind"}}}
		}, "mount the rootfs", "mount"},
		"stdout":  {func(c *CreateConfig) { c.Streams.Stdout = "file://" + hung + "/out" }, `open the streams of "c": open the streams: not done after `, "open the streams"},
		"a pipe":  {func(c *CreateConfig) { c.Streams.Stdin = hung + "/in" }, `open the streams of "c": open the streams: not done after `, "open the streams"},
		"runtime": {func(c *CreateConfig) { c.Options.BinaryName = hung + "/runc" }, "OCI runtime create did not finish within 8s", ""},
	} {
		t.Run(name, func(t *testing.T) {
			meter := stuckMeter{steps: make(chan string, 10)}
			b := newBed(t, hasty, func(e *Env) {
				e.Meter = meter
				e.Deadlines.Create = 8 * time.Second
			})
			cfg := b.config("c", "sleep", "1000")
			tc.change(&cfg)
			made := make(chan error, 1)
			go func() { _, _, err := b.set.Create(t.Context(), cfg); made <- err }()
			other := b.set
			cfg2 := b.config("other", "true")
			c, _, err := other.Create(t.Context(), cfg2)
			if err != nil {
				t.Fatalf("the other container: %v", err)
			}
			b.start(c, "")
			b.wait(c, "")
			b.delete(c, "")
			if err := <-made; !isDeadline(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
			if tc.step != "" {
				if step := <-meter.steps; step != tc.step {
					t.Errorf("overdue is %q", step)
				}
			}
			b.remove(b.create("c", "sleep", "1000"))
		})
	}
}

// TestStartHangsAndInitEnds: the exit is told although the OCI runtime hangs, after
// a bounded time, and the start's error says why it was given up.
func TestStartHangsAndInitEnds(t *testing.T) {
	b := newBed(t, hasty)
	c := b.create("c", "sh", "-c", "exit 7")
	b.fake.Set("start", ocitest.Failpoint{Hang: true, After: true})
	started := make(chan error, 1)
	go func() { _, err := c.Start(t.Context(), ""); started <- err }()
	if e := b.wait(c, ""); e.Status != 7 {
		t.Errorf("%+v", e)
	}
	if err := <-started; err == nil || !strings.Contains(err.Error(), "OCI runtime start was given up after") ||
		!strings.Contains(err.Error(), "the container's process has ended meanwhile") {
		t.Errorf("%v", err)
	}
	b.delete(c, "")
}

// TestHungExecIsEnded: a runtime that hangs, or fails, when it has made the process
// leaves none behind that nobody knows.
func TestHungExecIsEnded(t *testing.T) {
	for name, fail := range map[string]ocitest.Failpoint{
		"hangs":   {Hang: true, After: true},
		"fails":   {Exit: 1, After: true},
		"crashes": {Signal: unix.SIGKILL, After: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, impatient)
			c := b.running("c", "sleep", "1000")
			before := len(childProcesses())
			b.fake.Set("exec", fail)
			b.add(c, "e", "sleep", "1000")
			if _, err := c.Start(t.Context(), "e"); err == nil {
				t.Fatal("it was started")
			}
			eventually(t, "what it made is gone", func() bool { return len(childProcesses()) <= before })
			b.remove(c)
		})
	}
}

// TestLyingPidFile: a runtime that names another container's process does neither
// get that process's exit told for its own, nor the process killed.
func TestLyingPidFile(t *testing.T) {
	b := newBed(t)
	victim := b.running("victim", "sleep", "1000")
	p, err := victim.State("")
	if err != nil {
		t.Fatal(err)
	}
	lie := ocitest.Failpoint{PidFile: fmt.Sprint(p.Pid)}
	for name, fail := range map[string]ocitest.Failpoint{"succeeds": lie, "fails": {PidFile: lie.PidFile, Exit: 1, After: true}} {
		b.fake.Set("create", fail)
		if _, _, err := b.set.Create(t.Context(), b.config("liar", "sleep", "1000")); err == nil {
			t.Errorf("a create that %s made a container of another's process", name)
		}
		b.fake.Clear("create")
		b.fake.Set("exec", fail)
		b.add(victim, "e", "sleep", "1000")
		if _, err := victim.Start(t.Context(), "e"); err == nil {
			t.Errorf("an exec that %s took another's process", name)
		}
		b.delete(victim, "e")
		if got := b.status(victim, ""); got != Running || unix.Kill(p.Pid, 0) != nil {
			t.Fatalf("the victim of one that %s is %v", name, got)
		}
		b.fake.Clear("exec")
	}
	// What the liar has really made in the container ends with it.
	if err := victim.Kill(t.Context(), "", unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if e := b.wait(victim, ""); e.Signal != unix.SIGTERM {
		t.Errorf("%+v", e)
	}
	b.delete(victim, "")
}

// TestExecThatCannotDie: an exec is stuck in the kernel. The init's exit is told,
// State and Kill answer at once, and the exec's exit is told when it comes.
func TestExecThatCannotDie(t *testing.T) {
	b := newBed(t, hasty)
	c := b.running("c", "sleep", "1000")
	b.exec(c, "e", "sleep", "1000")
	p, err := c.State("e")
	if err != nil {
		t.Fatal(err)
	}
	thaw := ocitest.Freeze(t, p.Pid)
	within(t, 3*time.Second, "what does not wait for it", func() {
		for _, exec := range []string{"e", ""} {
			if err := c.Kill(t.Context(), exec, unix.SIGKILL, false); err != nil {
				t.Errorf("kill of %q: %v", exec, err)
			}
		}
		if got := b.status(c, "e"); got != Running {
			t.Errorf("the exec is %v", got)
		}
	})
	if e := b.wait(c, ""); e.Status != 137 {
		t.Errorf("%+v", e)
	}
	b.remove(b.running("other", "sleep", "1000"))
	thaw()
	if e := b.wait(c, "e"); e.Status != 137 {
		t.Errorf("%+v", e)
	}
	b.delete(c, "e")
	b.delete(c, "")
}

// TestDeleteHangs: it ends at its deadline, can be tried again, and whoever asks
// meanwhile for something else gets it.
func TestDeleteHangs(t *testing.T) {
	b := newBed(t, func(e *Env) { e.Deadlines.Delete = 3 * time.Second })
	c := b.running("c", "true")
	b.wait(c, "")
	b.fake.Set("delete", ocitest.Failpoint{Times: 1, Hang: true})
	if _, err := c.Delete(t.Context(), ""); !isDeadline(err) || !strings.Contains(err.Error(), "OCI runtime delete did not finish within 3s and was ended") {
		t.Errorf("%v", err)
	}
	if got := b.status(c, ""); got != Stopped {
		t.Errorf("%v", got)
	}
	b.delete(c, "")
}

// TestFailedCreateEndsStrangers: what a runtime has left in the container's cgroup
// is ended, though the runtime's own delete knows nothing of it.
func TestFailedCreateEndsStrangers(t *testing.T) {
	b := newBed(t)
	cfg := b.config("c", "true")
	name := fmt.Sprintf("/quoin-strangers-%d", os.Getpid())
	placed(t, cfg, name)
	dir := filepath.Join(hierarchy(t), name)
	t.Cleanup(func() { _ = os.Remove(dir) })
	script := filepath.Join(t.TempDir(), "runtime")
	// It leaves a process without a mark, as runc's init is, and knows no delete.
	body := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *delete*) exit 0;; esac\nmkdir -p %[1]s\nenv -i /usr/bin/setsid /bin/sleep 1000 & echo $! >%[1]s/cgroup.procs\nexit 1\n", dir)
	if err := os.WriteFile(script, []byte(body), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Options.BinaryName = script
	if _, _, err := b.set.Create(t.Context(), cfg); err == nil {
		t.Fatal("it was created")
	}
	eventually(t, "no process is left", func() bool { return len(childProcesses()) == 0 })
	if _, err := os.Stat(dir); err == nil {
		t.Error("its cgroup is left")
	}
}

// TestKillIsNotHeldUp: a client's kill of what cannot die returns.
func TestKillIsNotHeldUp(t *testing.T) {
	b := newBed(t, hasty)
	cfg := b.config("c", "sleep", "1000")
	c := b.createBy(cfg)
	b.start(c, "")
	p, err := c.State("")
	if err != nil {
		t.Fatal(err)
	}
	thaw := ocitest.Freeze(t, p.Pid)
	within(t, 5*time.Second, "the kill", func() {
		if err := c.Kill(t.Context(), "", unix.SIGKILL, true); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("%v", err)
		}
	})
	if got := b.status(c, ""); got != Running {
		t.Errorf("%v", got)
	}
	thaw()
	b.wait(c, "")
	b.delete(c, "")
}
