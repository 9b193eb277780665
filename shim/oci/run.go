// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
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
	callCtx, unwatch := r.watchManager(callCtx)
	defer unwatch()

	log := newCallLog(r.cfg.Bundle)
	out, err := newCapture(c.stdio, c.capture)
	if err != nil {
		log.close()
		return result{}, fmt.Errorf("OCI runtime %s: %w", c.op, err)
	}
	release := func() {
		out.close()
		log.close()
	}
	mark := newMark()
	err = r.wait(callCtx, func() *exec.Cmd { return r.command(c, log, out, mark) }, release)
	if !errors.Is(err, errUnkillable) {
		defer release()
	}
	if err != nil {
		killStrays(mark)
	}
	switch {
	case err == nil:
		data, err := out.stdout()
		if err != nil {
			return result{}, &Error{Op: c.op, Message: err.Error()}
		}
		return result{stdout: data}, nil
	case callCtx.Err() != nil:
		return result{}, overdue(callCtx, c.op, time.Since(begun), err)
	}
	return result{}, newError(r.cfg.Binary, c.op, log.lastError(), out.stderr(), err)
}

// command builds the process, which runs in "/": the shim's own working
// directory may be a bundle that is long gone.
func (r *Runtime) command(c call, log *callLog, out *capture, mark string) *exec.Cmd {
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
	cmd := exec.Command(r.cfg.Binary, append(args, c.args...)...)
	cmd.Dir = "/"
	cmd.Env = append(environ(), mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out.attach(cmd)
	return cmd
}

// A passed deadline is the cause of a context that ended by a deadline of ours,
// rather than by one of the caller's.
type passed struct{ limit time.Duration }

func (p passed) Error() string { return "did not finish within " + p.limit.String() }

func withDeadline(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, passed{limit})
}

// within runs a step of op that looks at files, which may be where a file system
// does not answer. Overdue, it is left behind.
func within(ctx context.Context, op string, step func() error) error {
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- step() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return overdue(ctx, op, time.Since(begun), nil)
	}
}

// overdue is the error of a call that the end of ctx ended.
func overdue(ctx context.Context, op string, waited time.Duration, err error) error {
	waited = waited.Round(time.Millisecond)
	how := fmt.Sprintf("was given up by the caller after %s", waited)
	var ours passed
	var silent silence
	switch cause := context.Cause(ctx); {
	case errors.As(cause, &silent):
		return fmt.Errorf("OCI runtime %s was given up: %w", op, silent)
	case ctx.Err() == context.Canceled && cause != context.Canceled:
		how = fmt.Sprintf("was given up after %s: %v", waited, cause)
	case errors.As(cause, &ours):
		how = ours.Error() + " and was ended"
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		how = fmt.Sprintf("did not finish before the caller's deadline and was ended after %s", waited)
	}
	if errors.Is(err, errUnkillable) {
		how += " (" + err.Error() + ")"
	}
	return fmt.Errorf("OCI runtime %s %s: %w", op, how, ctx.Err())
}
