// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// place decides which cgroup driver the OCI runtime is told, and rewrites the
// cgroupsPath where the node cannot do what it asks for.
func (c *Container) place(m *made, cgroupsPath string) error {
	driver := c.set.env.Driver
	if driver == cgroup.Unset && m.options.SystemdCgroup {
		driver = cgroup.Systemd
	}
	p, err := cgroup.Translate(cgroupsPath, c.set.env.Host.Node(driver))
	if err != nil {
		return fmt.Errorf("container %q: %w", c.id, err)
	}
	if p.Disagreement != nil {
		c.log().Warn(p.Disagreement.String())
	}
	if p.Rewritten {
		if err := c.bundle.SetCgroupsPath(p.Path); err != nil {
			return err
		}
	}
	m.systemd = p.Driver == cgroup.Systemd
	m.cgroupsPath = p.Path
	return nil
}

// accept fails when a container that the runtime has made cannot be served.
func (c *Container) accept(ctx context.Context, m *made, pid int) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("create container %q: the client has gone: %w", c.id, err)
	}
	if err := c.checkPlace(m, pid); err != nil {
		return err
	}
	return c.awaitHome(ctx)
}

// checkPlace fails when systemd was to place the container's process, and it is
// elsewhere: some OCI runtimes take a scope's start for done when a unit of its
// name is there already. Under cgroupfs the runtime itself writes the pid, and
// fails if that does.
func (c *Container) checkPlace(m *made, pid int) error {
	if !m.systemd || cgroup.Shape(m.cgroupsPath) != cgroup.Systemd {
		return nil
	}
	if err := cgroup.CheckUnit(pid, m.cgroupsPath); err != nil {
		return fmt.Errorf("container %q was made by the OCI runtime %s: %w", c.id, m.runtime.Name(), err)
	}
	return nil
}

// awaitHome waits until the shim is in its own place.
func (c *Container) awaitHome(ctx context.Context) error {
	if c.set.env.Home == nil {
		return nil
	}
	if err := c.set.env.Home(ctx); err != nil {
		return fmt.Errorf("container %q: %w", c.id, err)
	}
	return nil
}
