// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/quoin-io/quoin/integration/harness"
)

const (
	// stageVariable says which of the three processes this is: unset outside,
	// stageInit for PID 1 of the namespaces, stageBench inside.
	stageVariable = "QUOIN_BENCH_STAGE"
	stageInit     = "init"
	stageBench    = "bench"
	// baseVariable is the run's directory on disk, removed at the end.
	baseVariable = "QUOIN_BENCH_BASE"
	// tokenVariable names what the run makes where names are shared with the
	// rest of the machine: cgroups and the trace instance.
	tokenVariable = "QUOIN_BENCH_TOKEN"
)

// cleanupPatience bounds the end of processes that have just been told to.
const cleanupPatience = 10 * time.Second

// runOutside runs the benchmark in new namespaces and cleans up after it.
func runOutside(ctx context.Context, o options) (int, error) {
	base, err := os.MkdirTemp("", "quoin-bench-")
	if err != nil {
		return 1, fmt.Errorf("make the run's directory: %w", err)
	}
	token := fmt.Sprintf("bench-%d", os.Getpid())
	// The death signal follows the thread that forked, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := selfCommand(stageInit, baseVariable+"="+base, tokenVariable+"="+token)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		// A terminal's interrupt must not reach the daemons one by one.
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	if err = cmd.Start(); err == nil {
		interrupted := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // and with it the namespace
		err = cmd.Wait()
		interrupted()
	}
	cleanup := errors.Join(removeTrace(token), harness.RemoveCgroups(token), os.RemoveAll(base))
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 1, errors.Join(errors.New("interrupted"), cleanup)
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), cleanup
	default:
		return 0, errors.Join(err, cleanup)
	}
}

func selfCommand(stage string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// runInit is PID 1: it prepares the mounts and runs the benchmark.
func runInit() (int, error) {
	if err := prepareMounts(); err != nil {
		return 1, err
	}
	return harness.RunAsInit(selfCommand(stageBench))
}

// prepareMounts makes the mount namespace private, keeps the machine's /proc
// beside the namespace's own, and empties /run, where shims have their sockets.
func prepareMounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount namespace private: %w", err)
	}
	if err := os.Mkdir(outerProc(), 0o700); err != nil {
		return fmt.Errorf("make a place for the machine's /proc: %w", err)
	}
	if err := syscall.Mount("/proc", outerProc(), "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("keep the machine's /proc: %w", err)
	}
	const flags = syscall.MS_NOSUID | syscall.MS_NODEV
	if err := syscall.Mount("proc", "/proc", "proc", flags|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc of the PID namespace: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", flags, "mode=755"); err != nil {
		return fmt.Errorf("mount an empty /run: %w", err)
	}
	return nil
}

func base() string      { return os.Getenv(baseVariable) }
func token() string     { return os.Getenv(tokenVariable) }
func outerProc() string { return filepath.Join(base(), "proc") }

// until repeats what has no event to wait for until it succeeds or patience
// ends, and returns its last error.
func until(patience time.Duration, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
