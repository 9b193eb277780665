// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

// pretend is a machine that is only a process to be killed, and the guest's end
// of its port.
func pretend(t *testing.T) (*machine, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "frames")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	m := &machine{cmd: exec.Command("sleep", "1000"), frames: l}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		_ = m.cmd.Wait()
	})
	return m, socket
}

// talk sends frames as a guest does and hangs up.
func talk(t *testing.T, socket string, frames ...wire.Frame) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for _, f := range frames {
		if err := wire.Write(conn, f); err != nil {
			t.Error(err)
		}
	}
}

var onePlan = wire.Plan{Bed: "v2", Runs: []wire.Run{{Package: "vm/v2/a", Seconds: 60}}}

func output(text string) wire.Frame { return wire.Frame{Kind: wire.Output, Data: []byte(text)} }

// results are the last words on each test, and on the package as "".
func results(t *testing.T, text string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(text) {
		var e struct{ Action, Package, Test string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Package != "vm/v2/a" {
			t.Errorf("an event of the package %q", e.Package)
		}
		if e.Action == "pass" || e.Action == "fail" {
			found[e.Test] = e.Action
		}
	}
	return found
}

func TestFollow(t *testing.T) {
	passed := output("=== RUN   TestA\n--- PASS: TestA (0.00s)\n")
	for name, tc := range map[string]struct {
		frames []wire.Frame
		failed bool
		err    string
		pkg    string
	}{
		"passed": {
			frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, passed, output("PASS\n"), {Kind: wire.End}, {Kind: wire.Done}},
			pkg:    "pass",
		},
		"failed": {
			frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, passed, {Kind: wire.End, Code: 2}, {Kind: wire.Done}},
			failed: true, pkg: "fail",
		},
		"the machine ends": {
			frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, passed},
			failed: true, err: "ended before its tests did", pkg: "fail",
		},
		"no such run": {
			frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin, Index: 7}},
			failed: true, err: "run 7 of 1",
		},
		"output of no run": {
			frames: []wire.Frame{{Kind: wire.Up}, passed},
			failed: true, err: "output of no run",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, socket := pretend(t)
			var out bytes.Buffer
			go talk(t, socket, tc.frames...)
			failed, err := settings{goCommand: "go", boot: time.Minute, out: &out}.follow(m, onePlan)
			if failed != tc.failed || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("failed %t, error %v; want %t, %q", failed, err, tc.failed, tc.err)
			}
			got := results(t, out.String())
			if got[""] != tc.pkg {
				t.Errorf("the package: %q, want %q\n%s", got[""], tc.pkg, &out)
			}
			if tc.pkg != "" && got["TestA"] != "pass" {
				t.Errorf("TestA: %q", got["TestA"])
			}
		})
	}
}

// A machine that says nothing in time is given up.
func TestFollowSilence(t *testing.T) {
	absent, _ := pretend(t)
	s := settings{goCommand: "go", boot: 50 * time.Millisecond, out: &bytes.Buffer{}}
	if _, err := s.follow(absent, onePlan); err == nil || !strings.Contains(err.Error(), "did not start") {
		t.Errorf("a machine that does not connect: %v", err)
	}
	silent, socket := pretend(t)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := s.follow(silent, onePlan); err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("a machine that connects and is silent: %v", err)
	}
}
