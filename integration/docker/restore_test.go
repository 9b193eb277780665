// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// testLiveRestore: containers go on without dockerd, which finds them again
// with what they wrote, or how they ended, meanwhile. Of one that ended it does
// not always read the output: it deletes the task as soon as it finds it.
func testLiveRestore(t *testing.T, e *engine) {
	const name = "survivor"
	e.run(t, name, "sh", "-c", `trap 'echo meanwhile; touch /told' USR1; trap 'exit 5' TERM
echo before; while :; do sleep 1000 & wait $!; done`)
	logs := func(want string) {
		t.Helper()
		harness.Eventually(t, fmt.Sprintf("the logs are %q", want), func() string {
			if got := strings.ReplaceAll(e.must(t, "logs", name), "\n", " "); got != want {
				return got
			}
			return ""
		})
	}
	logs("before")
	pid, err := strconv.Atoi(e.must(t, "inspect", "--format", "{{.State.Pid}}", name))
	if err != nil {
		t.Fatal(err)
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatalf("signal %v to the container: %v", s, err)
		}
	}

	e.stop(t, syscall.SIGTERM)
	signal(syscall.SIGUSR1)
	harness.Eventually(t, "the container has written", func() string {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/told", pid)); err != nil {
			return err.Error()
		}
		return ""
	})
	e.launch(t)
	if got, want := e.must(t, "inspect", "--format", "{{.State.Status}} {{.State.Pid}}", name), fmt.Sprintf("running %d", pid); got != want {
		t.Errorf("after dockerd's restart: %q, want %q", got, want)
	}
	logs("before meanwhile")
	if r := e.docker(t, "exec", name, "sh", "-c", "echo in; exit 6"); r.Stdout != "in\n" || r.Code != 6 {
		t.Errorf("exec after dockerd's restart: (%q, %q, %d)", r.Stdout, r.Stderr, r.Code)
	}

	e.stop(t, syscall.SIGKILL)
	signal(syscall.SIGTERM)
	harness.Eventually(t, "the container's process is gone", func() string {
		if !harness.Gone(pid) {
			return "it is there"
		}
		return ""
	})
	e.launch(t)
	harness.Eventually(t, "dockerd knows how the container ended", func() string {
		if got := e.must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name); got != "exited 5" {
			return got
		}
		return ""
	})
	e.must(t, "start", name)
	e.must(t, "kill", name)
}

// testResize: the container's terminal follows the user's window.
func testResize(t *testing.T, e *engine) {
	term := harness.Open(t, e.command(t, "run", "--rm", "--interactive", "--tty", "--runtime", e.runtime, harness.BusyboxRef, "sh"), 80, 24)
	await := func(want string, again func()) {
		t.Helper()
		harness.Eventually(t, "the container's terminal is "+want, func() string {
			again()
			term.Type(t, "stty size\n")
			if got := term.Output.String(); !strings.Contains(got, want) {
				return got
			}
			return ""
		})
	}
	await("24 80", func() {})
	// The command line asks for the signal only after it has told the first size, which
	// may be any that the window had until then. So the window is dragged until it
	// notices, to one size and to another: the second it has by the signal.
	drag := func(width, height uint16) func() {
		return func() {
			term.Resize(t, width+1, height)
			term.Resize(t, width, height)
		}
	}
	await("41 101", drag(101, 41))
	await("33 90", drag(90, 33))
	term.Resize(t, 64, 17)
	await("17 64", func() {})
	term.Type(t, "exit 12\n")
	if code := term.AwaitExit(t); code != 12 {
		t.Errorf("exit code %d, want 12", code)
	}
}
