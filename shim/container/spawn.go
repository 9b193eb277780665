// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

func childStdio(io *stdio.IO) oci.Stdio {
	stdin, stdout, stderr := io.Child()
	return oci.Stdio{Stdin: stdin, Stdout: stdout, Stderr: stderr}
}

// createInit has the OCI runtime make the container and claims its init.
func (c *Container) createInit(ctx context.Context, m *made, h *handle, io *stdio.IO) (int, error) {
	return c.spawn(ctx, m, "", h, io, func() (int, error) {
		ctx, stop := abandoned(ctx, c.set.env.Deadlines.Abandon)
		defer stop()
		return m.runtime.Create(ctx, c.id, oci.CreateOptions{
			PidFile:       c.bundle.InitPidPath(),
			ConsoleSocket: io.ConsoleSocket(),
			Stdio:         childStdio(io),
			NoPivot:       m.options.NoPivotRoot,
			NoNewKeyring:  m.options.NoNewKeyring,
		})
	})
}

// abandoned returns a context that ends that much later than ctx does.
func abandoned(ctx context.Context, later time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(later, cancel)
		context.AfterFunc(longer, func() { t.Stop() })
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// spawn runs an OCI runtime that leaves a process to this shim, claims that
// process and lets its streams flow. The process is ended when they cannot: then
// the pid is returned beside the error.
func (c *Container) spawn(ctx context.Context, m *made, exec string, h *handle, io *stdio.IO, run func() (int, error)) (int, error) {
	flight := c.set.env.Reaper.Begin()
	defer flight.End()
	pid, err := run()
	if err != nil {
		c.endLeft(flight, exec)
		return 0, err
	}
	c.born(m, exec, pid) // before its claim: then it may be reaped
	p, err := flight.Claim(pid, func(e reaper.Exit) { c.post(exited{exec, h, e}) })
	if err != nil {
		flight.KillStranger(pid)
		return 0, fmt.Errorf("process %d that the OCI runtime left: %w", pid, err)
	}
	flight.End()
	h.claim(p)
	if err := c.connect(ctx, io); err != nil {
		if kerr := p.Signal(unix.SIGKILL); kerr != nil && !errdefs.IsNotFound(kerr) {
			c.log().WithError(kerr).Error("end a process whose streams could not be connected")
		}
		return pid, err
	}
	return pid, nil
}

// endLeft ends the process that a failed runtime has made all the same, by its pid
// file: it would run on unseen.
func (c *Container) endLeft(flight *reaper.Flight, exec string) {
	path := c.bundle.InitPidPath()
	if exec != "" {
		path = c.bundle.ExecPidPath(exec)
	}
	if pid, err := oci.ReadPidFile(path); err == nil && flight.KillStranger(pid) {
		c.log().WithField("pid", pid).Warn("ended a process that was left by an OCI runtime that failed")
	}
}

// watchCgroup finds the container's cgroup. Without one the container runs all
// the same, only without statistics and OOM events.
func (c *Container) watchCgroup(m *made, pid int) {
	cg, err := cgroup.Load(pid)
	if err != nil {
		c.log().WithError(err).Warn("no statistics: the cgroup of the container was not found")
		return
	}
	m.cgroup = cg
	if err := c.set.env.OOM.Add(c.id, cg); err != nil {
		c.log().WithError(err).Warn("no OOM events")
	}
}
