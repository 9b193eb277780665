// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
)

// As process 1 quoind serves by a child, reaps what others leave to it, passes
// signals on and ends with its child's exit code.
func TestProcessOne(t *testing.T) {
	needsRoot(t)
	daemon, dir, socket := daemonCommand(t)
	// The shell leaves a process behind that exits once a file is there.
	orphan := fmt.Sprintf(`(exec sh -c 'until [ -e %s/go ]; do sleep 0.05; done') & echo $! >%[1]s/pid; mount -t proc proc /proc; exec "$0" "$@"`, dir)
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", orphan}, daemon.Args...)...)
	cmd.Env = daemon.Env
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	client, err := containerd.New(socket, containerd.WithTimeout(30*time.Second))
	if err != nil {
		t.Fatalf("quoind does not answer: %v", err)
	}
	defer client.Close()
	if ok, err := client.IsServing(t.Context()); err != nil || !ok {
		t.Fatalf("quoind does not serve: %v", err)
	}

	pid, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	inside := fmt.Sprintf("/proc/%d/root/proc/%s", cmd.Process.Pid, strings.TrimSpace(string(pid)))
	if _, err := os.Stat(inside); err != nil {
		t.Fatalf("the orphan is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for gone := false; !gone; {
		select {
		case <-tick.C:
			_, err := os.Stat(inside)
			gone = errors.Is(err, os.ErrNotExist)
		case <-deadline:
			t.Fatal("the orphan was not reaped")
		}
	}

	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("quoind ended with %v; its log:\n%s", err, &log)
	}
	if !strings.Contains(log.String(), "process 1") {
		t.Errorf("it was not process 1:\n%s", &log)
	}
}

// What the child cannot do is told by the exit code.
func TestProcessOneFails(t *testing.T) {
	needsRoot(t)
	cmd := quoindCommand(t, "--config", "/nonexistent/config.toml")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || strings.Count(string(out), "/nonexistent/config.toml") != 1 {
		t.Errorf("%v:\n%s", err, out)
	}
}
