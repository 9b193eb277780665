// SPDX-License-Identifier: Apache-2.0

package ctr

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestRunWithTerminal(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		t.Cleanup(func() { d.Remove(t, id) })
		cmd := d.CLICommand(t, "run", "--rm", "--tty", "--runtime", d.Runtime, harness.BusyboxRef, id, "sh")
		term := harness.Open(t, cmd, 93, 31)
		// The answer differs from the echo of what is typed.
		term.Type(t, "tty; echo an''swer\n")
		term.Output.Await(t, "/dev/")
		term.Output.Await(t, "answer")
		awaitSize(t, term, "31 93")
		// The client asks for the signal only after it has told the first size, which
		// is seen by now: so the window is dragged until it notices.
		awaitSize(t, term, "23 71", func() {
			term.Resize(t, 72, 23)
			term.Resize(t, 71, 23)
		})
		term.Type(t, "exit 5\n")
		if code := term.AwaitExit(t); code != 5 {
			t.Errorf("exit code %d, want 5", code)
		}
	})
}

func TestAttach(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		t.Cleanup(func() { d.Remove(t, id) })
		// ctr wants a terminal of its own for --tty, even with --detach.
		run := harness.Open(t, d.CLICommand(t, "run", "--detach", "--tty", "--runtime", d.Runtime, harness.BusyboxRef, id, "sh"), 80, 24)
		if code := run.AwaitExit(t); code != 0 {
			t.Fatalf("run --detach --tty: exit code %d: %s", code, run.Output)
		}
		term := harness.Open(t, d.CLICommand(t, "tasks", "attach", id), 101, 37)
		term.Type(t, "echo hel''lo\n")
		term.Output.Await(t, "hello")
		awaitSize(t, term, "37 101")
		term.Type(t, "exit 3\n")
		if code := term.AwaitExit(t); code != 3 {
			t.Errorf("attach: exit code %d, want 3", code)
		}
	})
}

func TestExecWithTerminal(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		term := harness.Open(t, d.CLICommand(t, "tasks", "exec", "--tty", "--exec-id", "shell", id, "sh"), 66, 22)
		term.Type(t, "tty; echo in''side\n")
		term.Output.Await(t, "inside")
		term.Output.Await(t, "/dev/")
		// Ctrl-C reaches the foreground process and not the shell.
		term.Type(t, "sleep 1000\n")
		harness.Eventually(t, "sleep has the terminal", func() string {
			out := d.MustCLI(t, "tasks", "ps", id)
			if !hasForeground(out) {
				return out
			}
			return ""
		})
		term.Type(t, "\x03")
		term.Type(t, "echo sur''vived\n")
		term.Output.Await(t, "survived")
		term.Type(t, "exit 9\n")
		if code := term.AwaitExit(t); code != 9 {
			t.Errorf("exit code %d, want 9", code)
		}
	})
}

// hasForeground tells whether one of the processes that ps lists leads the
// foreground of its terminal and is not the shell, which has the lowest pid of
// those with a terminal. Ctrl-C before that would reach the shell alone.
func hasForeground(ps string) bool {
	var onTerminal []int
	leads := map[int]bool{}
	for line := range strings.Lines(ps) {
		pid, err := strconv.Atoi(strings.Fields(line + " -")[0])
		if err != nil {
			continue // the heading
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest) // state ppid pgrp session tty_nr tpgid (proc(5))
		if len(f) < 6 || f[4] == "0" {
			continue
		}
		onTerminal = append(onTerminal, pid)
		leads[pid] = f[2] == f[5] && f[2] == strconv.Itoa(pid)
	}
	if len(onTerminal) < 2 {
		return false
	}
	shell := slices.Min(onTerminal)
	return slices.ContainsFunc(onTerminal, func(pid int) bool { return pid != shell && leads[pid] })
}

// awaitSize asks the shell in the terminal for its size until it is want: ctr
// sends the size after the start. Each time, what is to be done again is.
func awaitSize(t *testing.T, term *harness.Terminal, want string, again ...func()) {
	t.Helper()
	harness.Eventually(t, "the container sees the size "+want, func() string {
		for _, f := range again {
			f()
		}
		term.Type(t, "stty size\n")
		if got := term.Output.String(); !strings.Contains(got, want) {
			return got
		}
		return ""
	})
}
