// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tracePath is where the kernel's trace file system is; a mount namespace of
// the run's own keeps the mount to itself.
const tracePath = "/sys/kernel/tracing"

// execTrace is the kernel's own record of every execve by a process and its
// descendants, however short they live: a trace instance, which disturbs no
// other user of tracing.
type execTrace struct{ dir string }

func traceDir(token string) string {
	return filepath.Join(tracePath, "instances", "quoin-"+token)
}

// startTrace records what the process and whatever it starts from now on
// executes.
func startTrace(pid int) (*execTrace, error) {
	if err := mountTrace(); err != nil {
		return nil, err
	}
	t := &execTrace{traceDir(token())}
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a trace instance: %w", err)
	}
	threads, err := machineThreads(pid)
	if err == nil {
		err = errors.Join(
			t.write("options/event-fork", "1"), // the children as well
			t.write("set_event_pid", strings.Join(threads, " ")),
			t.write("events/sched/sched_process_exec/enable", "1"))
	}
	if err != nil {
		return nil, errors.Join(err, t.stop())
	}
	return t, nil
}

func mountTrace() error {
	if _, err := os.Stat(filepath.Join(tracePath, "instances")); err == nil {
		return nil
	}
	if err := unix.Mount("tracefs", tracePath, "tracefs", 0, ""); err != nil {
		return fmt.Errorf("mount the kernel's trace file system: %w", err)
	}
	return nil
}

// machineThreads are the threads of a process of this PID namespace, by their
// ids on the machine: tracing knows no others.
func machineThreads(pid int) ([]string, error) {
	outer, err := machinePID(pid)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(outerProc(), outer, "task"))
	if err != nil {
		return nil, fmt.Errorf("list the daemon's threads: %w", err)
	}
	var threads []string
	for _, e := range entries {
		threads = append(threads, e.Name())
	}
	return threads, nil
}

// machinePID finds the process by its PID namespace and its pid in there.
func machinePID(pid int) (string, error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("read the PID namespace: %w", err)
	}
	dirs, err := filepath.Glob(filepath.Join(outerProc(), "[0-9]*"))
	if err != nil {
		return "", fmt.Errorf("list the machine's processes: %w", err)
	}
	for _, dir := range dirs {
		if ns, err := os.Readlink(filepath.Join(dir, "ns/pid")); err != nil || ns != own {
			continue
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
				ids := strings.Fields(rest)
				if ids[len(ids)-1] == strconv.Itoa(pid) {
					return filepath.Base(dir), nil
				}
			}
		}
	}
	return "", fmt.Errorf("process %d is not in the machine's /proc", pid)
}

func (t *execTrace) write(file, content string) error {
	if err := os.WriteFile(filepath.Join(t.dir, file), []byte(content), 0o600); err != nil {
		return fmt.Errorf("set up the trace: %w", err)
	}
	return nil
}

// quiet is how long nothing must have been executed for the trace to be
// complete: daemons clean up after they have answered.
const quiet = time.Second

var execLine = regexp.MustCompile(`sched_process_exec: filename=(.*) pid=\d+ old_pid=\d+`)

// files waits until nothing is executed any more and returns what was, in
// order, by the path that was given to execve.
func (t *execTrace) files() ([]string, error) {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for seen := -1; ; <-tick.C {
		content, err := os.ReadFile(filepath.Join(t.dir, "trace"))
		if err != nil {
			return nil, fmt.Errorf("read the trace: %w", err)
		}
		found := execLine.FindAllStringSubmatch(string(content), -1)
		if len(found) != seen {
			seen = len(found)
			continue
		}
		files := make([]string, len(found))
		for i, match := range found {
			files[i] = match[1]
		}
		return files, nil
	}
}

func (t *execTrace) stop() error {
	if err := unix.Rmdir(t.dir); err != nil {
		return fmt.Errorf("remove the trace instance %s: %w", t.dir, err)
	}
	return nil
}

// removeTrace removes the trace instance that an interrupted run has left: the
// kernel keeps it although the mount has gone with the run's namespace.
func removeTrace(token string) error {
	const script = `mountpoint -q "$0" || mount -t tracefs tracefs "$0" 2>/dev/null || exit 0
		! [ -d "$1" ] || rmdir "$1"`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, tracePath, traceDir(token))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("remove the trace instance: %w: %s", err, out)
	}
	return nil
}
