// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
)

// CreateOptions of one create.
type CreateOptions struct {
	// PidFile is where the runtime writes the pid of init. An old one is removed.
	PidFile string
	// ConsoleSocket is where the runtime sends the terminal. Empty means none.
	ConsoleSocket string
	// Stdio of init; ignored with a ConsoleSocket.
	Stdio Stdio
	// NoPivot makes the runtime move the root with MS_MOVE.
	NoPivot bool
	// NoNewKeyring keeps the session keyring.
	NoNewKeyring bool
}

// ExecOptions of one exec.
type ExecOptions struct {
	// PidFile is where the runtime writes the pid. An old one is removed.
	PidFile string
	// ConsoleSocket is where the runtime sends the terminal. Empty means none.
	ConsoleSocket string
	// Stdio of the process; ignored with a ConsoleSocket.
	Stdio Stdio
}

// Create makes the container of the bundle and returns the pid of its init, which
// waits for Start. A spec of a version that the runtime refuses is lowered in the
// bundle first (see Known). After an error the runtime may have left part of a
// container: follow up with Delete(force).
//
// Errors: *Error with errdefs.ErrAlreadyExists for an id in use;
// errdefs.ErrInvalidArgument for a spec that the runtime is too old for;
// context.DeadlineExceeded.
func (r *Runtime) Create(ctx context.Context, id string, opts CreateOptions) (int, error) {
	args := []string{"create", "--bundle", r.cfg.Bundle, "--pid-file", opts.PidFile}
	if opts.NoPivot {
		args = append(args, "--no-pivot")
	}
	if opts.NoNewKeyring {
		args = append(args, "--no-new-keyring")
	}
	return r.make(ctx, "create", id, opts.PidFile, opts.ConsoleSocket, opts.Stdio, args)
}

// make runs create or restore, for which the spec's version has to suit and the
// cgroup has to stay, within one deadline.
func (r *Runtime) make(ctx context.Context, op, id, pidFile, socket string, stdio Stdio, args []string) (int, error) {
	limit := r.cfg.Deadlines.Create
	ctx, cancel := withDeadline(ctx, limit) // for all tries
	defer cancel()
	if err := within(ctx, op, r.lowerKnown); err != nil {
		return 0, err
	}
	begin := func() (int, error) {
		c := call{op: op, deadline: limit, args: args}
		return r.spawn(ctx, c, id, pidFile, socket, stdio)
	}
	pid, err := r.untilPlaced(ctx, id, begin)
	if !refusesVersion(err) {
		return pid, err
	}
	lowered, lerr := r.lower(ctx)
	switch {
	case lerr != nil:
		return 0, lerr
	case !lowered:
		return 0, err // the version was not too new
	}
	return r.untilPlaced(ctx, id, begin)
}

// spawn runs a call that leaves a process behind, and returns its pid.
func (r *Runtime) spawn(ctx context.Context, c call, id, pidFile, socket string, stdio Stdio) (int, error) {
	if err := preparePidFile(c.op, pidFile); err != nil {
		return 0, err
	}
	if socket != "" {
		c.args = append(c.args[:len(c.args):len(c.args)], "--console-socket", socket)
	} else {
		c.stdio = &stdio
	}
	c.args = append(c.args[:len(c.args):len(c.args)], id)
	if _, err := r.run(ctx, c); err != nil {
		return 0, err
	}
	return r.readPid(c.op, pidFile)
}

// Start lets a created container's init run its program.
func (r *Runtime) Start(ctx context.Context, id string) error {
	_, err := r.run(ctx, call{op: "start", deadline: r.cfg.Deadlines.Start, args: []string{"start", id}})
	return err
}

// Exec runs another process in the container, described by an OCI process in
// JSON, and returns its pid.
//
// Errors: *Error with errdefs.ErrNotFound for an unknown container,
// errdefs.ErrFailedPrecondition for one that has stopped;
// context.DeadlineExceeded.
func (r *Runtime) Exec(ctx context.Context, id string, spec []byte, opts ExecOptions) (int, error) {
	file, err := r.tempFile("process", spec)
	if err != nil {
		return 0, fmt.Errorf("OCI runtime exec: %w", err)
	}
	defer os.Remove(file)
	c := call{
		op:       "exec",
		deadline: r.cfg.Deadlines.Exec,
		args:     []string{"exec", "--process", file, "--detach", "--pid-file", opts.PidFile},
	}
	return r.spawn(ctx, c, id, opts.PidFile, opts.ConsoleSocket, opts.Stdio)
}

// Kill sends a signal to the container's init, or to all its processes.
//
// Errors: *Error with errdefs.ErrNotFound when the container is unknown or its
// process has finished.
func (r *Runtime) Kill(ctx context.Context, id string, signal int, all bool) error {
	args := []string{"kill"}
	if all {
		args = append(args, "--all")
	}
	_, err := r.control(ctx, 0, append(args, id, strconv.Itoa(signal))...)
	return err
}

// Delete removes what the runtime keeps of the container and runs its poststop
// hooks. With force, a container that runs is killed first, and one that is
// unknown is no error.
//
// Errors: *Error with errdefs.ErrNotFound for an unknown container,
// errdefs.ErrFailedPrecondition for one that runs; context.DeadlineExceeded.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	args := []string{"delete"}
	if force {
		args = append(args, "--force")
	}
	_, err := r.run(ctx, call{op: "delete", deadline: r.cfg.Deadlines.Delete, args: append(args, id)})
	if force && errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}

// tempFile hands data to the runtime in a file, private, in the bundle. Stdin
// would not do: it belongs to the container's process, and not every runtime
// reads "-".
func (r *Runtime) tempFile(what string, data []byte) (string, error) {
	f, err := os.CreateTemp(r.cfg.Bundle, "."+what+"-*.json")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", what, err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("write %s: %w", what, err)
	}
	return f.Name(), nil
}
