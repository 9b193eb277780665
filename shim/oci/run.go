// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// killGrace is how long a call waits for a killed runtime to be gone before it
// leaves it behind.
const killGrace = 2 * time.Second

// call is one run of the runtime.
type call struct {
	op       string        // the step, as errors name it
	deadline time.Duration // of this call
	args     []string      // after the global options
	stdio    *Stdio        // for a container's process; nil captures the output
	capture  int64         // bytes of stdout that are kept
}

// result is what a call that ended well leaves.
type result struct {
	stdout []byte
}

// run runs the runtime once. Its error is an *Error, or wraps
// context.DeadlineExceeded or context.Canceled and names the step.
func (r *Runtime) run(ctx context.Context, c call) (_ result, err error) {
	begun := time.Now()
	defer func() { r.cfg.Observe(c.op, time.Since(begun), err) }()
	callCtx, cancel := withDeadline(ctx, c.deadline)
	defer cancel()

	log := newCallLog(r.cfg.Bundle)
	defer log.close()
	out, err := newCapture(c.stdio, c.capture)
	if err != nil {
		return result{}, fmt.Errorf("OCI runtime %s: %w", c.op, err)
	}
	defer out.close()

	cmd := r.command(callCtx, c, log, out)
	err = r.wait(callCtx, cmd)
	switch {
	case err == nil:
		data, err := out.stdout()
		if err != nil {
			return result{}, &Error{Op: c.op, Message: err.Error()}
		}
		return result{stdout: data}, nil
	case callCtx.Err() != nil:
		return result{}, overdue(callCtx, c.op, err)
	}
	return result{}, newError(r.cfg.Binary, c.op, log.lastError(), out.stderr(), err)
}

// command builds the process, which runs in "/": the shim's own working
// directory may be a bundle that is long gone.
func (r *Runtime) command(ctx context.Context, c call, log *callLog, out *capture) *exec.Cmd {
	var args []string
	if r.cfg.Root != "" {
		args = append(args, "--root", r.cfg.Root)
	}
	if log.path != "" {
		args = append(args, "--log", log.path, "--log-format", "json")
	}
	if r.cfg.SystemdCgroup {
		args = append(args, "--systemd-cgroup")
	}
	cmd := exec.CommandContext(ctx, r.cfg.Binary, append(args, c.args...)...)
	cmd.Dir = "/"
	cmd.Env = environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	cmd.WaitDelay = killGrace
	out.attach(cmd)
	return cmd
}

// wait starts cmd and waits for it, or until ctx has ended and killing did not
// help. The kernel sends the death signal when the thread that forked ends, not
// when the process does. Locking the thread for the call would be the usual way
// out, at the price of threads (each takes some 50 KB that are never given back):
// but Go ends a thread only when a goroutine ends that has locked it, and in the
// shim none does.
func (r *Runtime) wait(ctx context.Context, cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() {
		sealDescriptors()
		err := r.cfg.Children.Start(cmd)
		if err == nil {
			err = r.cfg.Children.Wait(cmd)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(2 * killGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		return errUnkillable
	}
}

var errUnkillable = errors.New("the runtime was killed and is still not gone")

// A passed deadline is the cause of a context that ended by a deadline of ours,
// rather than by one of the caller's.
type passed struct{ limit time.Duration }

func (p passed) Error() string { return "did not finish within " + p.limit.String() }

func withDeadline(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, passed{limit})
}

// overdue is the error of a call that the end of ctx ended.
func overdue(ctx context.Context, op string, err error) error {
	how := "was given up by the caller"
	var ours passed
	switch {
	case errors.As(context.Cause(ctx), &ours):
		how = ours.Error()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		how = "did not finish before the caller's deadline"
	}
	if errors.Is(err, errUnkillable) {
		how += " (" + err.Error() + ")"
	}
	return fmt.Errorf("OCI runtime %s %s: %w", op, how, ctx.Err())
}

// killGroup ends the runtime and what it has started, save what has left its
// process group. The group is named by pid, so the leader is first asked, by
// pidfd, whether it is still ours.
func killGroup(p *os.Process) error {
	if err := p.Signal(syscall.Signal(0)); err != nil {
		return err // os.ErrProcessDone: nothing to kill
	}
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return p.Kill()
}
