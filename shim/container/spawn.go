// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"os"
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
	return c.spawn(ctx, "", h, io, func() (int, error) {
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
func (c *Container) spawn(ctx context.Context, exec string, h *handle, io *stdio.IO, run func() (int, error)) (int, error) {
	flight := c.set.env.Reaper.Begin()
	defer flight.End()
	pid, err := run()
	if err != nil {
		return 0, err
	}
	p, err := flight.Claim(pid, func(e reaper.Exit) { c.post(exited{exec, h, e}) })
	if err != nil {
		return 0, fmt.Errorf("process %d that the OCI runtime left: %w", pid, err)
	}
	flight.End()
	h.claim(p)
	if err := io.Started(ctx); err != nil {
		if kerr := p.Signal(unix.SIGKILL); kerr != nil && !errdefs.IsNotFound(kerr) {
			c.log().WithError(kerr).Error("end a process whose streams could not be connected")
		}
		return pid, fmt.Errorf("connect the streams: %w", err)
	}
	return pid, nil
}

// abort removes what a create that began then and failed may have left.
func (c *Container) abort(m *made, begun time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.set.env.Deadlines.Delete)
	defer cancel()
	err := m.runtime.Delete(ctx, c.id, true)
	if err != nil || m.systemd || m.cgroupsPath == "" {
		return err
	}
	// A runtime that died before it could note what it had made leaves cgroups.
	// One that was there before is somebody else's; systemd collects its own.
	cg, err := cgroup.Open(m.cgroupsPath)
	if err != nil {
		return nil // there is none: the common case
	}
	if st, err := os.Stat(cg.Dir()); err != nil || st.ModTime().Before(begun) {
		return nil
	}
	return cg.Remove(ctx)
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
