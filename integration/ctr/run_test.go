// SPDX-License-Identifier: Apache-2.0

package ctr

import (
	"bufio"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name   string
		flags  []string
		script string
		stdout string
		stderr string
		code   int
	}{
		{name: "output", script: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{name: "exit code", script: "exit 17", code: 17},
		{name: "killed by a signal", script: "kill -9 $$", code: 137},
		{name: "environment and directory", flags: []string{"--env", "A=b c", "--cwd", "/tmp"}, script: "echo $A; pwd", stdout: "b c\n/tmp\n"},
		{name: "user", flags: []string{"--user", "app"}, script: "id -u", stdout: "1000\n"},
		{name: "read-only root", flags: []string{"--read-only"}, script: "touch /x 2>/dev/null || echo refused", stdout: "refused\n"},
		{name: "much output", script: "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done", stdout: strings.Repeat("0123456789\n", 20000)},
		{name: "no output", flags: []string{"--null-io"}, script: "echo out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, d *harness.Daemon) {
				args := append([]string{"run", "--rm", "--runtime", d.Runtime}, tc.flags...)
				// PID 1 ignores signals without a handler, so a child runs the script.
				args = append(args, harness.BusyboxRef, harness.ID(t), "sh", "-c", `sh -c "$0"; exit $?`, tc.script)
				r := d.CLI(t, args...)
				if r.Stdout != tc.stdout {
					t.Errorf("stdout: %d bytes %.200q, want %d bytes %.200q", len(r.Stdout), r.Stdout, len(tc.stdout), tc.stdout)
				}
				if !strings.Contains(r.Stderr, tc.stderr) {
					t.Errorf("stderr: %q, want %q", r.Stderr, tc.stderr)
				}
				if r.Code != tc.code {
					t.Errorf("exit code %d, want %d; stderr %q", r.Code, tc.code, r.Stderr)
				}
				if out := d.MustCLI(t, "containers", "list", "--quiet"); strings.Contains(out, harness.ID(t)+"\n") {
					t.Errorf("--rm left the container: %s", out)
				}
			})
		})
	}
}

func TestRunReadsStdin(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		cmd := d.CLICommand(t, "run", "--rm", "--runtime", d.Runtime, harness.BusyboxRef, harness.ID(t), "sh", "-c", "wc -c; echo done")
		cmd.Stdin = strings.NewReader(strings.Repeat("x", 300_000))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := strings.Fields(string(out)); len(got) != 2 || got[0] != "300000" || got[1] != "done" {
			t.Errorf("output %q: stdin was not delivered, or its end was not", out)
		}
	})
}

func TestDetachedLifecycle(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		id := harness.ID(t)
		detached(t, d, id)
		if got := status(t, d, id); got != "RUNNING" {
			t.Fatalf("after run --detach the task is %s", got)
		}
		r := d.CLI(t, "tasks", "delete", id)
		if r.Code == 0 {
			t.Fatal("a running task was deleted")
		}
		if !strings.Contains(r.Stderr, "failed precondition") && !strings.Contains(r.Stderr, "must be stopped") {
			t.Errorf("deleting a running task says %q", r.Stderr)
		}
		d.MustCLI(t, "tasks", "kill", "--signal", "SIGKILL", id)
		harness.Eventually(t, "the task is stopped", func() string {
			if got := status(t, d, id); got != "STOPPED" {
				return got
			}
			return ""
		})
		if r := d.CLI(t, "tasks", "delete", id); r.Code != 137 && r.Code != 0 {
			t.Fatalf("delete: exit code %d, stderr %s", r.Code, r.Stderr)
		}
		d.MustCLI(t, "containers", "delete", id)
	})
}

func TestRunAgainAfterDelete(t *testing.T) {
	onBoth(t, func(t *testing.T, d *harness.Daemon) {
		for range 2 {
			out := d.MustCLI(t, "run", "--rm", "--runtime", d.Runtime, harness.BusyboxRef, harness.ID(t), "echo", "again")
			if out != "again\n" {
				t.Fatalf("output %q", out)
			}
		}
	})
}

// status is the task's state as `tasks list` shows it; "" if it is not there.
func status(t *testing.T, d *harness.Daemon, id string) string {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(d.MustCLI(t, "tasks", "list")))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) >= 3 && fields[0] == id {
			return fields[2]
		}
	}
	return ""
}
