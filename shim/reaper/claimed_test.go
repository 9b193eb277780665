// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"os/exec"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// A process has one owner: two would be told one exit, or be killed for each other.
func TestClaimedOnce(t *testing.T) {
	r := reaperFor(t)
	f := r.Begin()
	defer f.End()
	pid := orphan(t, r, "exec sleep 1000")
	exits := make(chan Exit, 1)
	p, err := f.Claim(pid, func(e Exit) { exits <- e })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Claim(pid, func(Exit) { t.Error("the exit is told twice") }); !errdefs.IsAlreadyExists(err) {
		t.Fatalf("claimed twice: %v", err)
	}
	if f.KillStranger(pid) {
		t.Error("a claimed process was killed as a stranger")
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := <-exits; e.Signal != unix.SIGTERM {
		t.Fatalf("exit %+v", e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.claimed) != 0 {
		t.Errorf("%d are still claimed", len(r.claimed))
	}
}

func TestKillStranger(t *testing.T) {
	r := reaperFor(t)
	f := r.Begin()
	defer f.End()
	pid := orphan(t, r, "exec sleep 1000")
	cmd := exec.Command("sleep", "1000")
	if err := r.Start(cmd); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]int{"a command": cmd.Process.Pid, "the host's init": 1, "a parent": unix.Getppid(), "none": 1<<22 + 1} {
		if f.KillStranger(other) {
			t.Errorf("%s was killed", name)
		}
	}
	if !f.KillStranger(pid) {
		t.Error("it was not killed")
	}
	f.End()
	eventually(t, "it is reaped", func() bool { return !exists(pid) })
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := r.Wait(cmd); err == nil {
		t.Error("the command ended well")
	}
}
