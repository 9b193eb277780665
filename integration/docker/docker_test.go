// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/harness"
)

type command struct {
	name string
	run  func(*testing.T, *engine)
}

// commands does with an engine what its users do, all at once.
func commands(t *testing.T, e *engine, more ...command) {
	all := append([]command{
		{"run", testRun},
		{"errors", testErrors},
		{"exec", testExec},
		{"logs", testLogs},
		{"stop", testStop},
		{"terminal", testTerminal},
		{"pause", testPause},
		{"restart policy", testRestartPolicy},
		{"stats and top", testStats},
	}, more...)
	t.Run("commands", func(t *testing.T) {
		for _, c := range all {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, e)
			})
		}
	})
}

// nothingLeft: neither containers nor shims.
func nothingLeft(t *testing.T, e *engine) {
	t.Helper()
	if out := e.must(t, "ps", "--all", "--quiet"); out != "" {
		t.Errorf("containers are left: %s", out)
	}
	harness.Eventually(t, "no shim is left", func() string {
		var left []string
		for _, p := range harness.Processes() {
			if strings.Contains(p.Name, "containerd-shim") {
				left = append(left, p.String())
			}
		}
		return strings.Join(left, "\n")
	})
}

// checkShim: the container's shim is the one under test.
func (e *engine) checkShim(t *testing.T, name string) {
	t.Helper()
	shims := harness.Shims(e.must(t, "inspect", "--format", "{{.Id}}", name))
	if len(shims) != 1 {
		t.Fatalf("the container's shims:\n%s", harness.Describe(shims))
	}
	if got, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", shims[0].PID)); err != nil || got != e.shim {
		t.Errorf("the shim is %s, %v; want %s", got, err, e.shim)
	}
}

func testRun(t *testing.T, e *engine) {
	r := e.docker(t, "run", "--rm", "--runtime", e.runtime, harness.BusyboxRef, "sh", "-c", "echo out; echo err >&2; exit 19")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 19 {
		t.Errorf("got (%q, %q, %d)", r.Stdout, r.Stderr, r.Code)
	}
	cmd := e.command(t, "run", "--rm", "--interactive", "--runtime", e.runtime, harness.BusyboxRef, "wc", "-c")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 100_000))
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "100000" {
		t.Errorf("stdin: %q, %v", out, err)
	}
	name := "inspected"
	e.run(t, name, "sleep", "1000")
	if got := e.must(t, "inspect", "--format", "{{.HostConfig.Runtime}} {{.State.Status}}", name); got != e.runtime+" running" {
		t.Errorf("inspect says %q", got)
	}
	e.checkShim(t, name)
}

// testErrors: docker turns these words into its exit codes 126 and 127.
func testErrors(t *testing.T, e *engine) {
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"no-such-command", 127, "executable file not found in $PATH"},
		{"/no/such", 127, "no such file or directory"},
		{"/plain", 126, "permission denied"},
	} {
		r := e.docker(t, "run", "--rm", "--runtime", e.runtime, harness.BusyboxRef, tc.args)
		if r.Code != tc.code || !strings.Contains(r.Stderr, tc.want) {
			t.Errorf("%s: exit code %d, stderr %q; want %d and %q", tc.args, r.Code, r.Stderr, tc.code, tc.want)
		}
	}
}

func testExec(t *testing.T, e *engine) {
	e.run(t, "executed", "sleep", "1000")
	r := e.docker(t, "exec", "executed", "sh", "-c", "echo out; echo err >&2; exit 23")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 23 {
		t.Errorf("got (%q, %q, %d)", r.Stdout, r.Stderr, r.Code)
	}
	if r := e.docker(t, "exec", "executed", "no-such-command"); r.Code != 126 && r.Code != 127 {
		t.Errorf("exec of an absent command: exit code %d, %q %q", r.Code, r.Stdout, r.Stderr)
	}
	term := harness.Open(t, e.command(t, "exec", "--interactive", "--tty", "executed", "sh"), 88, 26)
	term.Type(t, "tty; echo in''side\n")
	term.Output.Await(t, "inside")
	term.Type(t, "exit 24\n")
	if code := term.AwaitExit(t); code != 24 {
		t.Errorf("exec with a terminal: exit code %d", code)
	}
}

func testLogs(t *testing.T, e *engine) {
	e.run(t, "logged", "sh", "-c", "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; echo last >&2")
	if got := e.must(t, "wait", "logged"); got != "0" {
		t.Errorf("wait says %s", got)
	}
	r := e.docker(t, "logs", "logged")
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if r.Stdout != want.String() || r.Stderr != "last\n" {
		t.Errorf("logs: %d bytes instead of %d, stderr %q", len(r.Stdout), want.Len(), r.Stderr)
	}
}

func testStop(t *testing.T, e *engine) {
	e.run(t, "stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 1000 & wait $!; done")
	began := time.Now()
	e.must(t, "stop", "--time", "1", "stubborn")
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("stop --time 1 took %v", took)
	}
	if got := e.must(t, "inspect", "--format", "{{.State.ExitCode}}", "stubborn"); got != "137" {
		t.Errorf("exit code %s, want 137", got)
	}
	e.run(t, "polite", harness.ExitOnTerm(7)...)
	// Its sleep runs, so that the shell is not hit while it forks: busybox's then
	// ends with a status of its own.
	harness.Eventually(t, "the trap is set", func() string {
		if out := e.must(t, "logs", "polite"); out != "ready" {
			return out
		}
		if out := e.must(t, "top", "polite"); !strings.Contains(out, "sleep 1000") {
			return out
		}
		return ""
	})
	e.must(t, "stop", "--time", "20", "polite")
	if got := e.must(t, "inspect", "--format", "{{.State.ExitCode}}", "polite"); got != "7" {
		t.Errorf("exit code %s, want 7", got)
	}
	e.must(t, "start", "polite")
	e.must(t, "kill", "polite")
}

func testTerminal(t *testing.T, e *engine) {
	cmd := e.command(t, "run", "--rm", "--interactive", "--tty", "--runtime", e.runtime, harness.BusyboxRef, "sh")
	term := harness.Open(t, cmd, 97, 33)
	harness.Eventually(t, "the container sees the terminal's size", func() string {
		term.Type(t, "stty size\n")
		if got := term.Output.String(); !strings.Contains(got, "33 97") {
			return got
		}
		return ""
	})
	term.Type(t, "exit 11\n")
	if code := term.AwaitExit(t); code != 11 {
		t.Errorf("exit code %d, want 11", code)
	}
}

func testPause(t *testing.T, e *engine) {
	e.run(t, "paused", "sleep", "1000")
	e.must(t, "pause", "paused")
	if got := e.must(t, "inspect", "--format", "{{.State.Status}}", "paused"); got != "paused" {
		t.Errorf("the container is %s", got)
	}
	e.must(t, "unpause", "paused")
	e.must(t, "update", "--memory", "64m", "--memory-swap", "64m", "paused")
	if got := e.must(t, "exec", "paused", "cat", "/proc/1/comm"); got != "sleep" {
		t.Errorf("after unpause: %q", got)
	}
}

func testRestartPolicy(t *testing.T, e *engine) {
	t.Cleanup(func() { e.remove(t, "again") })
	e.must(t, "run", "--detach", "--runtime", e.runtime, "--restart", "on-failure:2", "--name", "again", harness.BusyboxRef, "sh", "-c", "echo round; exit 3")
	harness.Eventually(t, "docker has restarted it twice", func() string {
		got := e.must(t, "inspect", "--format", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "again")
		if got != "2 exited 3" {
			return got
		}
		return ""
	})
	if got := e.must(t, "logs", "again"); got != "round\nround\nround" {
		t.Errorf("logs %q", got)
	}
}

func testStats(t *testing.T, e *engine) {
	e.run(t, "measured", "sleep", "1000")
	if got := e.must(t, "stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "measured"); got != "measured 1" {
		t.Errorf("stats say %q", got)
	}
	if got := e.must(t, "top", "measured"); !strings.Contains(got, "sleep 1000") {
		t.Errorf("top says %q", got)
	}
}
