// SPDX-License-Identifier: Apache-2.0

package ctr

import (
	"strconv"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestExec(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		for _, tc := range []struct {
			name   string
			args   []string
			stdout string
			stderr string
			code   int
		}{
			{name: "output", args: []string{"sh", "-c", "echo out; echo err >&2"}, stdout: "out\n", stderr: "err"},
			{name: "code", args: []string{"sh", "-c", "exit 42"}, code: 42},
			{name: "signal", args: []string{"sh", "-c", "kill -TERM $$"}, code: 143},
			{name: "shares the process tree", args: []string{"sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"}, stdout: "sleep 1000 "},
			{name: "not found", args: []string{"/no/such/program"}, code: 1, stderr: "no such file or directory"},
			{name: "not executable", args: []string{"/plain"}, code: 1, stderr: "permission denied"},
		} {
			r := d.CLI(t, append([]string{"tasks", "exec", "--exec-id", "x-" + strconv.Itoa(len(tc.name)), id}, tc.args...)...)
			if r.Stdout != tc.stdout || r.Code != tc.code || !strings.Contains(r.Stderr, tc.stderr) {
				t.Errorf("%s: got (%q, %q, %d), want (%q, %q, %d)", tc.name, r.Stdout, r.Stderr, r.Code, tc.stdout, tc.stderr, tc.code)
			}
		}
	})
}

func TestProcessList(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		d.MustCLI(t, "tasks", "exec", "--detach", "--exec-id", "the-exec", id, "sleep", "999")
		out := d.MustCLI(t, "tasks", "ps", id)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != 3 {
			t.Fatalf("ps shows %d lines, want a heading and two processes:\n%s", len(lines), out)
		}
		if !strings.Contains(out, "the-exec") {
			t.Errorf("ps does not tell which process is the exec:\n%s", out)
		}
		d.MustCLI(t, "tasks", "kill", "--exec-id", "the-exec", "--signal", "SIGKILL", id)
		harness.Eventually(t, "the exec is gone from ps", func() string {
			if out := d.MustCLI(t, "tasks", "ps", id); strings.Count(strings.TrimSpace(out), "\n") != 1 {
				return out
			}
			return ""
		})
		if got := status(t, d, id); got != "RUNNING" {
			t.Errorf("the container is %s after its exec was killed", got)
		}
	})
}

func TestKillAll(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id, "sh", "-c", "sleep 1000 & sleep 1001 & wait")
		d.MustCLI(t, "tasks", "kill", "--all", "--signal", "KILL", id)
		harness.Eventually(t, "the task is stopped", func() string {
			if got := status(t, d, id); got != "STOPPED" {
				return got
			}
			return ""
		})
	})
}

func TestPauseAndResume(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		d.MustCLI(t, "tasks", "pause", id)
		if got := status(t, d, id); got != "PAUSED" {
			t.Errorf("after pause the task is %s", got)
		}
		if r := d.CLI(t, "tasks", "exec", "--exec-id", "refused", id, "true"); r.Code == 0 {
			t.Error("an exec started in a paused container")
		}
		d.MustCLI(t, "tasks", "resume", id)
		if got := status(t, d, id); got != "RUNNING" {
			t.Errorf("after resume the task is %s", got)
		}
		if out := d.MustCLI(t, "tasks", "exec", "--exec-id", "accepted", id, "echo", "thawed"); out != "thawed\n" {
			t.Errorf("exec after resume: %q", out)
		}
	})
}

// TestKillWhilePaused: SIGKILL ends a frozen container without a resume.
func TestKillWhilePaused(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		d.MustCLI(t, "tasks", "pause", id)
		d.MustCLI(t, "tasks", "kill", "--signal", "KILL", id)
		harness.Eventually(t, "the task is stopped", func() string {
			if got := status(t, d, id); got != "STOPPED" {
				return got
			}
			return ""
		})
	})
}

func TestMetrics(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		out := d.MustCLI(t, "tasks", "metrics", id)
		for _, want := range []string{id, "memory.usage_in_bytes", "cpuacct.usage", "pids.current"} {
			if !strings.Contains(out, want) {
				t.Errorf("metrics do not show %q:\n%s", want, out)
			}
		}
	})
}

// TestCheckpoint: criu is not on the machine. The user has to learn that, and
// the container has to go on.
func TestCheckpoint(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		r := d.CLI(t, "tasks", "checkpoint", id, "quoin.test/checkpoint:1")
		if r.Code == 0 {
			t.Fatal("a checkpoint was made without criu")
		}
		if !strings.Contains(r.Stderr, "criu") {
			t.Errorf("the error does not name criu: %s", r.Stderr)
		}
		if got := status(t, d, id); got != "RUNNING" {
			t.Errorf("after the refused checkpoint the task is %s", got)
		}
		if out := d.MustCLI(t, "tasks", "exec", "--exec-id", "after", id, "echo", "alive"); out != "alive\n" {
			t.Errorf("exec after the refused checkpoint: %q", out)
		}
	})
}
