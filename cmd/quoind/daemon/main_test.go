// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// asQuoind in the environment makes the test binary be quoind: the registry of
// plugins is global, so each run of the daemon's command line is a process.
const asQuoind = "QUOIND_TEST_AS_QUOIND"

func TestMain(m *testing.M) {
	if os.Getenv(asQuoind) == "" {
		os.Exit(m.Run())
	}
	app, err := App()
	if err == nil {
		err = app.Run(context.Background(), os.Args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quoind:", err)
		os.Exit(1)
	}
}

func quoindCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	// The race detector would wait a second at the end of each process.
	cmd.Env = append(os.Environ(), asQuoind+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// quoind runs the command line to its end.
func quoind(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := quoindCommand(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// daemonCommand is a daemon on a root, state and socket of its own.
func daemonCommand(t *testing.T) (cmd *exec.Cmd, dir, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "quoind") // sockets' paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "config.toml")
	text := "version = 4\n[plugins.'io.containerd.internal.v1.opt']\npath = '" + dir + "/opt'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "q.sock")
	return quoindCommand(t, "--config", file, "--root", dir+"/root", "--state", dir+"/state", "--address", socket), dir, socket
}

// needsRoot is for what the kernel lets only root do: a daemon of containerd's
// mounts, and PID namespaces are made. `make test` runs as root; a developer's
// `go test ./...` need not, and skips these.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("daemons and PID namespaces need root, as whom `make test` runs")
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
