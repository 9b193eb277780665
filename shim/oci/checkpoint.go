// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

const (
	// criuLog is what criu writes in its work path, and what is kept of it in the
	// bundle, as the runc shim does.
	criuLog     = "dump.log"
	keptCriuLog = "criu-dump.log"
	// maxCriuLog is how much of its end is kept, in bytes.
	maxCriuLog = 1 << 20
)

// CheckpointOptions of one checkpoint.
type CheckpointOptions struct {
	// ImagePath is the directory that the images are written to.
	ImagePath string
	// WorkPath is for criu's log and scratch files. Empty means a temporary one.
	WorkPath string
	// ParentPath is the directory of an earlier pre-dump.
	ParentPath string
	// LeaveRunning lets the container go on afterwards.
	LeaveRunning bool
	// TCPEstablished allows open TCP connections.
	TCPEstablished bool
	// ExternalUnixSockets allows connected UNIX sockets.
	ExternalUnixSockets bool
	// ShellJob allows a terminal.
	ShellJob bool
	// FileLocks allows file locks.
	FileLocks bool
	// EmptyNamespaces are made anew at restore, without their settings.
	EmptyNamespaces []string
	// CgroupsMode is soft, full, strict or ignore. Empty leaves it to the runtime.
	CgroupsMode string
}

// RestoreOptions of one restore.
type RestoreOptions struct {
	// ImagePath is the directory of the images.
	ImagePath string
	// WorkPath is for criu's log and scratch files. Empty means a temporary one.
	WorkPath string
	// ParentPath is for the caller's convenience; images name their parent
	// themselves, and no runtime has such an option for restore.
	ParentPath string
	// PidFile is where the runtime writes the pid of init. An old one is removed.
	PidFile string
	// ConsoleSocket is where the runtime sends the terminal. Empty means none.
	ConsoleSocket string
	// Stdio of init; ignored with a ConsoleSocket.
	Stdio Stdio
	// NoPivot makes the runtime move the root with MS_MOVE.
	NoPivot bool
	// TCPEstablished, ExternalUnixSockets, ShellJob, FileLocks, EmptyNamespaces and
	// CgroupsMode are as in CheckpointOptions.
	TCPEstablished, ExternalUnixSockets, ShellJob, FileLocks bool
	EmptyNamespaces                                          []string
	CgroupsMode                                              string
}

// criuFlags are the options that checkpoint and restore share.
type criuFlags struct {
	tcp, unix, job, locks bool
	emptyNS               []string
	cgroups               string
}

func (f criuFlags) args() []string {
	var args []string
	for _, b := range []struct {
		set  bool
		name string
	}{{f.tcp, "--tcp-established"}, {f.unix, "--ext-unix-sk"}, {f.job, "--shell-job"}, {f.locks, "--file-locks"}} {
		if b.set {
			args = append(args, b.name)
		}
	}
	if f.cgroups != "" {
		args = append(args, "--manage-cgroups-mode", f.cgroups)
	}
	for _, ns := range f.emptyNS {
		args = append(args, "--empty-ns", ns)
	}
	return args
}

// Checkpoint writes the container to files with criu.
//
// Errors: *Error with errdefs.ErrFailedPrecondition when criu is not installed,
// errdefs.ErrNotImplemented when the runtime cannot; context.DeadlineExceeded.
func (r *Runtime) Checkpoint(ctx context.Context, id string, opts CheckpointOptions) error {
	if opts.ImagePath == "" {
		return fmt.Errorf("checkpoint needs an image path: %w", errdefs.ErrInvalidArgument)
	}
	work, done, err := r.criuWork(opts.WorkPath)
	if err != nil {
		return fmt.Errorf("OCI runtime checkpoint: %w", err)
	}
	defer done()
	args := []string{"checkpoint", "--image-path", opts.ImagePath, "--work-path", work}
	if opts.ParentPath != "" {
		args = append(args, "--parent-path", opts.ParentPath)
	}
	if opts.LeaveRunning {
		args = append(args, "--leave-running")
	}
	args = append(args, criuFlags{
		tcp: opts.TCPEstablished, unix: opts.ExternalUnixSockets, job: opts.ShellJob, locks: opts.FileLocks,
		emptyNS: opts.EmptyNamespaces, cgroups: opts.CgroupsMode,
	}.args()...)
	_, err = r.run(ctx, call{op: "checkpoint", deadline: r.cfg.Deadlines.Checkpoint, args: append(args, id)})
	return r.criuError(err, work)
}

// Restore makes the container of the bundle from a checkpoint and returns the pid
// of its init, which runs. It is detached; the option no-subreaper is not given,
// since only runc has it and a detached runc has no use for it.
//
// Errors: as Create and Checkpoint.
func (r *Runtime) Restore(ctx context.Context, id string, opts RestoreOptions) (int, error) {
	if opts.ImagePath == "" {
		return 0, fmt.Errorf("restore needs an image path: %w", errdefs.ErrInvalidArgument)
	}
	work, done, err := r.criuWork(opts.WorkPath)
	if err != nil {
		return 0, fmt.Errorf("OCI runtime restore: %w", err)
	}
	defer done()
	args := []string{
		"restore", "--bundle", r.cfg.Bundle, "--image-path", opts.ImagePath, "--work-path", work,
		"--detach", "--pid-file", opts.PidFile,
	}
	if opts.NoPivot {
		args = append(args, "--no-pivot")
	}
	args = append(args, criuFlags{
		tcp: opts.TCPEstablished, unix: opts.ExternalUnixSockets, job: opts.ShellJob, locks: opts.FileLocks,
		emptyNS: opts.EmptyNamespaces, cgroups: opts.CgroupsMode,
	}.args()...)
	pid, err := r.make(ctx, "restore", id, opts.PidFile, opts.ConsoleSocket, opts.Stdio, args)
	return pid, r.criuError(err, work)
}

// criuWork gives criu a place for its log.
func (r *Runtime) criuWork(path string) (string, func(), error) {
	if path != "" {
		return path, func() {}, nil
	}
	dir, err := os.MkdirTemp(r.cfg.Bundle, ".criu-*")
	if err != nil {
		return "", nil, fmt.Errorf("make a work directory for criu: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil // what is left goes with the bundle
}

// criuError makes a failure understandable. A runtime that misses criu says so in
// words of its own (runc 1.1: `criu version check failed: … fork/exec`; runc 1.5
// quotes go-criu), so it is looked for here, in the PATH that the runtime has.
func (r *Runtime) criuError(err error, work string) error {
	var e *Error
	if !errors.As(err, &e) || errors.Is(err, errdefs.ErrNotImplemented) {
		return err
	}
	if _, missing := exec.LookPath("criu"); missing != nil {
		e.Message = "criu is not installed or not in PATH; install it to checkpoint and restore containers (" + e.Message + ")"
		e.class = errdefs.ErrFailedPrecondition
		return err
	}
	if !strings.Contains(e.Message, "criu") {
		return err
	}
	kept := filepath.Join(r.cfg.Bundle, keptCriuLog)
	if log := readTail(filepath.Join(work, criuLog), maxCriuLog); len(log) > 0 && keep(kept, log) == nil {
		first, _, _ := strings.Cut(e.Message, "\n")
		e.Message = first + " path= " + kept // the runc shim's words
	}
	return err
}

// keep writes a file of the bundle anew, with mode 0600 and through no link.
func keep(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
