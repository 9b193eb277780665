// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestGate(t *testing.T) {
	f := New(t)
	gate := f.Gate("features")
	cmd := exec.Command(f.Binary(), "features")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-gate.Reached()
	// Another step is not stopped.
	if out, err := exec.Command(f.Binary(), "--version").Output(); err != nil || !strings.Contains(string(out), "fake version") {
		t.Errorf("%s, %v", out, err)
	}
	gate.Open()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := exec.Command(f.Binary(), "features").Run(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(f.Steps(), " "); got != "features --version features" {
		t.Errorf("steps: %s", got)
	}
}

func TestTimes(t *testing.T) {
	f := New(t)
	f.Set("features", Failpoint{Times: 2, Exit: 9})
	for i, want := range []int{9, 9, 0, 0} {
		cmd := exec.Command(f.Binary(), "features")
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != want {
			t.Errorf("run %d: %v, want %d", i, err, want)
		}
	}
	f.Set("features", Failpoint{Times: 1, Exit: 3})
	cmd := exec.Command(f.Binary(), "features")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("set anew: %v", err)
	}
	f.Clear("features")
	if err := exec.Command(f.Binary(), "features").Run(); err != nil {
		t.Error(err)
	}
}

// What a hung runtime and a container leave is gone after the test.
func TestCleanup(t *testing.T) {
	var f *Fake
	t.Run("leave", func(t *testing.T) {
		f = New(t)
		bundle := Bundle(t, "sleep", "1000")
		if err := exec.Command(f.Binary(), "create", "--bundle", bundle, "c").Run(); err != nil {
			t.Fatal(err)
		}
		f.Set("delete", Failpoint{Grandchild: true})
		if err := exec.Command(f.Binary(), "delete", "--force", "none").Run(); err != nil {
			t.Fatal(err)
		}
	})
	for _, p := range processes() {
		if p.state != 'Z' && strings.Contains(cmdline(p), f.dir) {
			t.Errorf("left: %s", cmdline(p))
		}
	}
}
