// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"

	"github.com/quoin-io/quoin/integration/harness"
)

// pod is containers in one shim, each in another state.
type pod struct {
	d                                         *harness.Daemon
	running, paused, created, stopped, logged *harness.Running
	added                                     containerd.Process // an exec of running that was not started
	addedExit                                 <-chan containerd.ExitStatus
	addedOut                                  *harness.Output
	log                                       string // of logged, by a binary logger
	loggerPID                                 int
}

// newPod makes them.
func newPod(t *testing.T, d *harness.Daemon) *pod {
	t.Helper()
	p := &pod{d: d, addedOut: &harness.Output{}}
	member := func(name string, c harness.Container) *harness.Running {
		c.Spec = inPod("the-pod")
		return d.Create(t, name, c)
	}
	start := func(r *harness.Running) *harness.Running {
		t.Helper()
		if err := r.Task.Start(d.Context(t, "")); err != nil {
			t.Fatal(err)
		}
		return r
	}
	ctx := d.Context(t, "")
	p.running = start(member("running", exitsOnTerm(41)))
	p.paused = start(member("paused", exitsOnTerm(42)))
	p.paused.Stdout.Await(t, "ready")
	if err := p.paused.Task.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	p.created = member("created", harness.Container{Args: []string{"sh", "-c", "echo begun; exit 43"}})
	p.stopped = start(member("stopped", harness.Container{Args: []string{"sh", "-c", "echo said; exit 44"}}))
	if code := p.stopped.AwaitExit(t).ExitCode(); code != 44 {
		t.Fatalf("it stopped with %d", code)
	}
	p.startLogged(t, member, start)
	p.running.Stdout.Await(t, "ready")
	var err error
	p.added, err = p.running.Task.Exec(ctx, "added", p.running.Process(t, "sh", "-c", "echo executed; exit 46"), cio.NewCreator(cio.WithStreams(nil, p.addedOut, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if p.addedExit, err = p.added.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// startLogged starts a container whose output a program of its own takes.
func (p *pod) startLogged(t *testing.T, member func(string, harness.Container) *harness.Running, start func(*harness.Running) *harness.Running) {
	t.Helper()
	dir := t.TempDir()
	p.log = filepath.Join(dir, "log")
	logger, pid := filepath.Join(dir, "logger"), filepath.Join(dir, "pid")
	script := fmt.Sprintf("#!/bin/sh\necho $$ >%s\nexec 5>&-\nexec cat <&3 >%s\n", pid, p.log)
	if err := os.WriteFile(logger, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	uri, err := cio.LogURIGenerator("binary", logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.logged = start(member("logged", harness.Container{
		Args: []string{"sh", "-c", "trap 'echo bye; exit 45' TERM; i=0; while :; do echo n$i; i=$((i+1)); sleep 0.05; done"},
		IO:   cio.LogURI(uri),
	}))
	harness.Eventually(t, "the logger runs", func() string {
		content, err := os.ReadFile(pid)
		if _, err2 := fmt.Sscan(string(content), &p.loggerPID); err != nil || err2 != nil {
			return fmt.Sprint(err, err2)
		}
		return ""
	})
}

// survives asks everything of the containers that each state allows, and checks what
// comes of it.
func (p *pod) survives(t *testing.T) {
	t.Helper()
	ctx := p.d.Context(t, "")
	p.status(t, p.created, containerd.Created)
	p.status(t, p.paused, containerd.Paused)
	p.status(t, p.stopped, containerd.Stopped)
	if err := p.paused.Task.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.created.Task.Start(ctx); err != nil {
		t.Fatal(err)
	}
	p.ended(t, p.created, 43)
	p.created.Stdout.Await(t, "begun")
	if err := p.added.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if code := harness.AwaitExit(t, "the exec", p.addedExit).ExitCode(); code != 46 {
		t.Errorf("the exec ended with %d", code)
	}
	p.addedOut.Await(t, "executed")
	if _, err := p.added.Delete(ctx); err != nil {
		t.Error(err)
	}
	p.ended(t, p.stopped, 44)
	for r, code := range map[*harness.Running]uint32{p.running: 41, p.paused: 42, p.logged: 45} {
		r.Signal(t, syscall.SIGTERM)
		p.ended(t, r, code)
	}
	p.logIsWhole(t)
}

func (p *pod) status(t *testing.T, r *harness.Running, want containerd.ProcessStatus) {
	t.Helper()
	if s, err := r.Task.Status(p.d.Context(t, "")); err != nil || s.Status != want {
		t.Errorf("%s is %s, %v, want %s", r.ID(), s.Status, err, want)
	}
}

// ended waits for the exit and deletes the container.
func (p *pod) ended(t *testing.T, r *harness.Running, code uint32) {
	t.Helper()
	if r != p.stopped { // whose exit was taken
		if got := r.AwaitExit(t).ExitCode(); got != code {
			t.Errorf("%s ended with %d, want %d", r.ID(), got, code)
		}
	}
	s, err := r.Task.Delete(p.d.Context(t, ""))
	if err != nil || s.ExitCode() != code {
		t.Errorf("%s: deleted with %d, %v, want %d", r.ID(), s.ExitCode(), err, code)
	}
	if err := r.Container.Delete(p.d.Context(t, ""), containerd.WithSnapshotCleanup); err != nil {
		t.Error(err)
	}
}

// logIsWhole checks what the logging program has got, to the last word.
func (p *pod) logIsWhole(t *testing.T) {
	t.Helper()
	if !harness.Gone(p.loggerPID) {
		t.Errorf("the logger %d is left", p.loggerPID)
	}
	content, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	lines, ok := strings.CutSuffix(string(content), "bye\n")
	if !ok {
		t.Errorf("its end is missing: %.60q", content[max(0, len(content)-60):])
	}
	var s sequence
	_, _ = s.Write([]byte(lines))
	if s.count(t, "the log") == 0 {
		t.Error("the log is empty")
	}
}

// shim is the only one of the pod.
func (p *pod) shim(t *testing.T) shimSeen {
	t.Helper()
	all := shimsSeen(t, p.d)
	if len(all) != 1 || all["the-pod"].Status != "ok" {
		t.Fatalf("%+v", all)
	}
	return all["the-pod"]
}

// TestUpgradeInEveryState: a pod with containers in each state goes from release to
// release and back.
func TestUpgradeInEveryState(t *testing.T) {
	harness.OnBoth(t, "states", func(t *testing.T, d *harness.Daemon) {
		p := newPod(t, d)
		pid := p.shim(t).PID
		for id, to := range map[string]string{"the-pod": built(t, nextShim), "paused": built(t, olderShim), "create": harness.Shim.Path()} {
			mustUpgrade(t, d, to, id) // by whatever it serves
		}
		if now := p.shim(t).PID; now != pid {
			t.Errorf("the shim is process %d and was %d", now, pid)
		}
		p.survives(t)
	})
}

// TestUpgradeOnCgroupV2: the same where the cgroups are version 2's.
func TestUpgradeOnCgroupV2(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Spec{Kind: harness.KindQuoind, Name: "states-v2", Bed: harness.CgroupV2})
	p := newPod(t, d)
	for _, to := range []string{built(t, nextShim), built(t, olderShim)} {
		mustUpgrade(t, d, to, "--all")
	}
	if r := upgradeShims(t, d, built(t, crashingShim), "--all"); r.Code != 1 {
		t.Errorf("%+v", r)
	}
	p.survives(t)
}

// TestUpgradeThatCrashes: the new binary kills itself when it has taken all over. The
// old one goes on in a process of its own, and can be upgraded again; all that the
// containers are asked for later works, and each exit is told with its true status
// although they are not its children.
func TestUpgradeThatCrashes(t *testing.T) {
	harness.OnBoth(t, "crash", func(t *testing.T, d *harness.Daemon) {
		exits := countExits(t, d)
		p := newPod(t, d)
		before := p.shim(t)
		r := upgradeShims(t, d, built(t, crashingShim), "running")
		if r.Code != 1 || !strings.Contains(r.Stdout, "the-pod failed: ") || !strings.Contains(r.Stdout, "the old one goes on as process") {
			t.Fatalf("%+v", r)
		}
		after := p.shim(t)
		if after.PID == before.PID || after.Version != before.Version {
			t.Errorf("%+v, was %+v", after, before)
		}
		mustUpgrade(t, d, built(t, nextShim), "running")
		if now := p.shim(t); now.PID != after.PID || now.Version != "9.9.9" {
			t.Errorf("%+v", now)
		}
		p.survives(t)
		exits.check(t, 6)
	})
}
