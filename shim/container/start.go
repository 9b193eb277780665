// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci"
)

// start has the OCI runtime start the init, restore it, or make an exec.
func (c *Container) start(e startOp) (int, error) {
	m := c.made.Load()
	p, err := c.current(e.exec)
	if err != nil {
		return 0, err
	}
	switch {
	case e.exec != "":
		return c.startExec(e.to.ctx, m, e.exec, p.h)
	case e.restore:
		return c.restore(e.to.ctx, m, p.h)
	}
	ctx, cancel := context.WithCancelCause(e.to.ctx)
	defer cancel(nil)
	defer p.h.starting(func() { cancel(errEnded) })()
	return p.pid, m.runtime.Start(ctx, c.id)
}

// errEnded is why a start is given up.
var errEnded = errors.New("the container's process has ended meanwhile")

// current reads a process from the published view: operations run beside the driver
// and must not touch its machine.
func (c *Container) current(exec string) (procView, error) {
	_, p, err := c.process(exec)
	return p, err
}

func (c *Container) startExec(ctx context.Context, m *made, exec string, h *handle) (int, error) {
	io, err := c.openIO(ctx, m.options, exec, h.streams)
	if err != nil {
		return 0, err
	}
	pid, err := c.spawn(ctx, m, exec, h, io, func() (int, error) {
		return m.runtime.Exec(ctx, c.id, h.spec, oci.ExecOptions{
			PidFile:       c.bundle.ExecPidPath(exec),
			ConsoleSocket: io.ConsoleSocket(),
			Stdio:         childStdio(io),
		})
	})
	if err == nil {
		if err = h.attach(io); err != nil {
			// It runs, but is reported as one that does not: nobody could end it.
			h.detach()
			if kerr := h.signal(unix.SIGKILL); kerr != nil && !errdefs.IsNotFound(kerr) {
				c.log().WithError(kerr).WithField("exec", exec).Error("end an exec whose streams could not be set up")
			}
		}
	}
	if err != nil {
		if cerr := c.closeIO(io); cerr != nil {
			c.log().WithError(cerr).WithField("exec", exec).Warn("close the streams of an exec that did not start")
		}
		return 0, err
	}
	return pid, nil
}

// restore makes the init from a checkpoint. Its streams were opened by the
// create.
func (c *Container) restore(ctx context.Context, m *made, h *handle) (int, error) {
	io := h.attached()
	if io == nil {
		return 0, fmt.Errorf("container %q has no streams to be restored with", c.id)
	}
	opts := *m.restore
	opts.ConsoleSocket, opts.Stdio = io.ConsoleSocket(), childStdio(io)
	pid, err := c.spawn(ctx, m, "", h, io, func() (int, error) {
		return m.runtime.Restore(ctx, c.id, opts)
	})
	if err != nil {
		return pid, err
	}
	if err := c.checkPlace(m, pid); err != nil {
		if kerr := h.signal(unix.SIGKILL); kerr != nil && !errdefs.IsNotFound(kerr) {
			c.log().WithError(kerr).Error("end a restored process that is not in its cgroup")
		}
		return pid, err
	}
	if err := h.fit(); err != nil { // the streams were there before the terminal
		c.log().WithError(err).Warn("set the size of a restored container's terminal")
	}
	restored := *m
	c.watchCgroup(&restored, pid)
	c.made.Store(&restored)
	return pid, nil
}

func (c *Container) restoreOptions(cfg CreateConfig) *oci.RestoreOptions {
	work := cfg.Options.CriuWorkPath
	if work == "" {
		work = c.bundle.WorkPath()
	}
	return &oci.RestoreOptions{
		ImagePath:  cfg.Checkpoint,
		ParentPath: cfg.ParentCheckpoint,
		WorkPath:   work,
		PidFile:    c.bundle.InitPidPath(),
		NoPivot:    cfg.Options.NoPivotRoot,
	}
}
