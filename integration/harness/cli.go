// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// commandDeadline bounds one command of a test.
const commandDeadline = 90 * time.Second

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// CLI runs what a user types: quoinctl with quoind, ctr with stock containerd.
func (d *Daemon) CLI(t testing.TB, args ...string) Result {
	t.Helper()
	return run(t, d.CLICommand(t, args...))
}

// MustCLI is CLI for a command that has to succeed; it returns its output.
func (d *Daemon) MustCLI(t testing.TB, args ...string) string {
	t.Helper()
	r := d.CLI(t, args...)
	if r.Code != 0 {
		t.Fatalf("%s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// CLICommand prepares a command line; its context ends with the test.
func (d *Daemon) CLICommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	binary := StockCtr.Path()
	if d.Kind == KindQuoind && !Reference() {
		binary = Quoinctl.Path()
	}
	return Command(t, binary, append([]string{"--address", d.Address, "--namespace", d.Namespace}, args...)...)
}

// Command prepares a command that is ended when the test does, or takes too
// long.
func Command(t testing.TB, binary string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandDeadline)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1")
	return cmd
}

// Run runs a command and returns how it ended.
func Run(t testing.TB, binary string, args ...string) Result {
	t.Helper()
	return run(t, Command(t, binary, args...))
}

func run(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	if !cmd.ProcessState.Exited() {
		t.Fatalf("%s: %v (longer than %v?)\nstdout: %s\nstderr: %s", cmd, cmd.ProcessState, commandDeadline, &stdout, &stderr)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}
