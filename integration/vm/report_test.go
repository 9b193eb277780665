// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

// pretence is what a process that stands in for qemu does: it says its frames as
// a guest does, and exits; or first waits to be killed.
type pretence struct {
	Frames  []wire.Frame
	Connect bool
	Hang    bool
	Code    int
}

const pretenceVariable = "QUOIN_VM_TEST_PRETENCE"

func TestMain(m *testing.M) {
	if text := os.Getenv(pretenceVariable); text != "" {
		os.Exit(pretend(text, os.Args))
	}
	os.Exit(m.Run())
}

func pretend(text string, args []string) int {
	var p pretence
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	if p.Connect {
		_, socket, _ := strings.Cut(strings.Join(args, " "), "socket,id=frames,path=")
		conn, err := net.Dial("unix", strings.Fields(socket)[0])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 3
		}
		for _, f := range p.Frames {
			if err := wire.Write(conn, f); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	if p.Hang {
		hang()
	}
	fmt.Fprintln(os.Stderr, "the last words of the machine")
	return p.Code
}

// hang waits to be killed, as a machine that hangs. It does so for an hour, lest
// it outlive a test that was itself killed first.
func hang() { <-time.After(time.Hour) }

// play runs beds on machines that pretend, by name.
func play(t *testing.T, s settings, plays map[string]pretence) (out string, failed bool, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in\n"
	var plans []wire.Plan
	for bed, p := range plays {
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("*quoin.bed=%s*) export %s='%s' ;;\n", bed, pretenceVariable, text)
		plans = append(plans, wire.Plan{Bed: bed, Runs: []wire.Run{{Package: "vm/" + bed + "/a", Seconds: 60}}})
	}
	script += "esac\nexec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	var text bytes.Buffer
	s.goCommand, s.out = "go", &text
	failed, err = s.runBeds(t.Context(), t.TempDir(), image{"none"}, "none", plans)
	return text.String(), failed, err
}

func output(text string) wire.Frame { return wire.Frame{Kind: wire.Output, Data: []byte(text)} }

// results are the last words on each test and on each package.
func results(t *testing.T, text string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(text) {
		var e struct{ Action, Package, Test string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Action == "pass" || e.Action == "fail" {
			found[strings.TrimSuffix(e.Package+"."+e.Test, ".")] = e.Action
		}
	}
	return found
}

func TestRunBeds(t *testing.T) {
	passed := output("=== RUN   TestA\n--- PASS: TestA (0.00s)\n")
	for name, tc := range map[string]struct {
		play   pretence
		failed bool
		err    string
		// pkg and of are the verdict on the run, and on the bed as a whole.
		pkg, of string
	}{
		"passed": {
			play: pretence{Connect: true, Frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, passed, output("PASS\n"), {Kind: wire.End}, {Kind: wire.Done}}},
			pkg:  "pass",
		},
		"failed": {
			play:   pretence{Connect: true, Frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, passed, {Kind: wire.End, Code: 2}, {Kind: wire.Done}}},
			failed: true, pkg: "fail",
		},
		"the machine ends": {
			play:   pretence{Connect: true, Frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, passed}},
			failed: true, err: "ended before its tests did", pkg: "fail",
		},
		"the machine fails after its tests": {
			play:   pretence{Connect: true, Frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, passed, output("PASS\n"), {Kind: wire.End}, {Kind: wire.Done}}, Code: 1},
			failed: true, err: "exit status 1", pkg: "pass", of: "fail",
		},
		"no such run": {
			play:   pretence{Connect: true, Hang: true, Frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin, Index: 7}}},
			failed: true, err: "run 7 of 1", of: "fail",
		},
		"output of no run": {
			play:   pretence{Connect: true, Hang: true, Frames: []wire.Frame{{Kind: wire.Up}, passed}},
			failed: true, err: "output of no run", of: "fail",
		},
		"the machine does not start": {
			play:   pretence{Code: 1},
			failed: true, err: "did not start", of: "fail",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, failed, err := play(t, settings{boot: time.Minute, silence: time.Minute}, map[string]pretence{"v2": tc.play})
			if failed != tc.failed || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("failed %t, error %v; want %t, %q", failed, err, tc.failed, tc.err)
			}
			got := results(t, out)
			if got["vm/v2/a"] != tc.pkg || got["vm/v2"] != tc.of {
				t.Errorf("the run: %q, want %q; the bed: %q, want %q\n%s", got["vm/v2/a"], tc.pkg, got["vm/v2"], tc.of, out)
			}
			if tc.pkg != "" && got["vm/v2/a.TestA"] != "pass" {
				t.Errorf("TestA: %q", got["vm/v2/a.TestA"])
			}
		})
	}
}

// A machine that says nothing in time is given up and counted, and the others go
// on to their end.
func TestSilence(t *testing.T) {
	fine := pretence{Connect: true, Frames: []wire.Frame{{Kind: wire.Up}, {Kind: wire.Begin}, output("PASS\n"), {Kind: wire.End}, {Kind: wire.Done}}}
	out, failed, err := play(t, settings{boot: 10 * time.Second, silence: 5 * time.Second, atOnce: 3}, map[string]pretence{
		"absent": {Hang: true},
		"silent": {Hang: true, Connect: true},
		"v2":     fine,
	})
	if !failed || err == nil || !strings.Contains(err.Error(), "bed absent: the machine did not start") || !strings.Contains(err.Error(), "bed silent: the machine hangs") {
		t.Errorf("failed %t: %v", failed, err)
	}
	got := results(t, out)
	for of, want := range map[string]string{"vm/absent": "fail", "vm/silent": "fail", "vm/v2/a": "pass"} {
		if got[of] != want {
			t.Errorf("%s: %q, want %q", of, got[of], want)
		}
	}
}
