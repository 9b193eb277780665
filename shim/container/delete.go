// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/ledger"
)

// delete releases what an ended process, or one that never was, holds. The init's
// waits for ending, unless that is nil.
func (c *Container) delete(e deleteOp, ending <-chan struct{}) error {
	p, err := c.current(e.exec)
	if err != nil {
		return err
	}
	c.drain(e.to.ctx, e.exec, p.h)
	if e.exec != "" {
		c.deleteExec(e.exec, p.h)
		return nil
	}
	if ending != nil {
		<-ending
	}
	return c.deleteInit(e.to.ctx, p)
}

// drain lets the output that was written before the exit reach the client.
func (c *Container) drain(ctx context.Context, exec string, h *handle) {
	io := h.attached()
	if io == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.set.env.Deadlines.Drain)
	defer cancel()
	if err := io.Drain(ctx); err != nil {
		c.log().WithError(err).WithField("exec", exec).Warn("output is left that nobody reads")
	}
}

func (c *Container) deleteExec(exec string, h *handle) {
	if io := h.detach(); io != nil {
		if err := c.closeIO(io); err != nil {
			c.log().WithError(err).WithField("exec", exec).Warn("close the streams of an exec")
		}
	}
	// On a disk that is full or read-only they stay, and do no harm: the next exec of
	// this id replaces them, and the bundle goes with all that is in it.
	path := c.bundle.ExecPidPath(exec)
	err := os.Remove(path)
	if _, missing := os.Lstat(path); errors.Is(missing, fs.ErrNotExist) {
		err = nil // a read-only disk says so of what is not there, too
	}
	if err := errors.Join(err, ledger.RemoveExec(c.bundle.Path(), exec)); err != nil {
		c.log().WithError(err).WithField("exec", exec).Warn("remove the files of an exec")
	}
}

// deleteFromRuntime has the OCI runtime forget the container. On cgroup v2 a
// frozen process dies of SIGKILL while its cgroup stays frozen: runc takes such
// a container for one that is paused, and deletes it only once it is thawed.
func (c *Container) deleteFromRuntime(ctx context.Context, m *made) error {
	err := m.runtime.Delete(ctx, c.id, false)
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	// A runtime that was stuck is not where it refuses.
	if m.cgroup.Mode() != cgroup.Unified || errors.Is(err, context.DeadlineExceeded) || c.thaw(ctx, m) != nil {
		return err
	}
	if err := m.runtime.Delete(ctx, c.id, false); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

func (c *Container) deleteInit(ctx context.Context, p procView) error {
	m := c.made.Load()
	// A container that was checkpointed and left, or never restored, is not known
	// to the runtime any more.
	if p.pid != 0 {
		if err := c.deleteFromRuntime(ctx, m); err != nil {
			return err
		}
	}
	c.set.env.OOM.Remove(c.id)
	for exec, e := range c.view.Load().execs {
		// Execs that the client did not delete go with their container. Whoever
		// still waits for one learns from the end of the driver that it has no exit
		// to tell: none is made up.
		c.deleteExec(exec, e.h)
	}
	if io := p.h.detach(); io != nil {
		if err := c.closeIO(io); err != nil {
			c.log().WithError(err).Warn("close the streams of the container")
		}
	}
	if err := c.unmountRootfs(m); err != nil {
		return err
	}
	return ledger.RemoveBirth(c.bundle.Path())
}
