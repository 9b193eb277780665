// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/ledger"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/stdio"
)

// CreateConfig describes a container to create.
type CreateConfig struct {
	ID string
	// Bundle is the absolute path of the bundle directory.
	Bundle  string
	Rootfs  []*types.Mount
	Streams stdio.Streams
	// Checkpoint is a directory of criu's images: the container exists from its
	// start on, restored from there.
	Checkpoint, ParentCheckpoint string
	Options                      bundle.Options
}

// Create makes a container and returns it with its pid, which is 0 for a
// checkpoint. It is undone when ctx ends before it is done. A second create of
// an id is ErrAlreadyExists.
func (s *Set) Create(ctx context.Context, cfg CreateConfig) (*Container, int, error) {
	if err := bundle.CheckID(cfg.ID); err != nil {
		return nil, 0, fmt.Errorf("container id: %w", err)
	}
	b, err := bundle.Open(cfg.Bundle)
	if err != nil {
		return nil, 0, err
	}
	h := newHandle(cfg.Streams, nil)
	c := &Container{
		id:      cfg.ID,
		set:     s,
		bundle:  b,
		m:       newMachine(cfg.ID, h),
		inbox:   make(chan event),
		parks:   make(chan *parking),
		retired: make(chan struct{}),
		settled: make(chan struct{}),
	}
	c.view.Store(c.m.snapshot())
	if err := s.add(c); err != nil {
		return nil, 0, err
	}
	go c.run()

	to := &call{ctx: ctx, done: make(chan outcome, 1)}
	result := created{to: to}
	result.err = guard(func() error { return c.create(ctx, cfg, h, &result) })
	c.post(result)
	out := <-to.done
	if out.err != nil {
		<-c.retired
	}
	close(c.settled)
	return c, out.pid, out.err
}

// create makes what a container needs, in order; what was made is unmade in
// reverse when a later step fails.
func (c *Container) create(ctx context.Context, cfg CreateConfig, h *handle, result *created) error {
	var undo []func() error
	whole := false // a panic leaves no error
	defer func() {
		if !whole {
			c.undo(undo)
		}
	}()
	facets, err := c.bundle.Facets()
	if err != nil {
		return err
	}
	m := &made{options: cfg.Options, killOnExit: !facets.PrivatePIDNamespace}
	if err := c.place(m, facets.CgroupsPath); err != nil {
		return err
	}
	if err := c.writeBundle(m); err != nil {
		return err
	}
	if m.runtime, err = c.newRuntime(m); err != nil {
		return err
	}
	c.conceive(m)
	if m.mounted, err = c.mountRootfs(ctx, cfg.Rootfs); err != nil {
		return err
	}
	undo = append(undo, func() error { return c.unmountRootfs(m) })

	io, err := c.openIO(ctx, cfg.Options, cfg.ID, cfg.Streams)
	if err != nil {
		return err
	}
	undo = append(undo, func() error { return c.closeIO(io) })
	if err := h.attach(io); err != nil {
		return err
	}
	if err := c.clearStale(ctx, m); err != nil {
		return err
	}
	if cfg.Checkpoint != "" {
		if err := c.awaitHome(ctx); err != nil {
			return err
		}
		m.restore = c.restoreOptions(cfg)
	} else {
		begun := time.Now()
		undo = append(undo, func() error { return c.abort(m, h, begun) })
		if result.pid, err = c.createInit(ctx, m, h, io); err != nil {
			return err
		}
		if err := c.accept(ctx, m, result.pid); err != nil {
			return err
		}
		c.watchCgroup(m, result.pid)
	}
	c.made.Store(m)
	result.restore, result.killOnExit = m.restore != nil, m.killOnExit
	result.event = createEvent(cfg, result.pid)
	whole = true
	if c.set.env.Used != nil {
		c.set.env.Used(m.runtime)
	}
	return nil
}

// undo unmakes what a create has made, the last first. Whatever stays is left to
// whoever cleans up after this shim.
func (c *Container) undo(steps []func() error) {
	clean := true
	for i := len(steps) - 1; i >= 0; i-- {
		// The client is told why the create failed; this is for the log.
		if err := steps[i](); err != nil {
			clean = false
			c.log().WithError(err).Warn("clean up after a failed create")
		}
	}
	if !clean {
		return
	}
	if err := ledger.RemoveBirth(c.bundle.Path()); err != nil {
		c.log().WithError(err).Warn("clean up after a failed create")
	}
}

func createEvent(cfg CreateConfig, pid int) *events.TaskCreate {
	return &events.TaskCreate{
		ContainerID: cfg.ID,
		Bundle:      cfg.Bundle,
		Rootfs:      cfg.Rootfs,
		IO: &events.TaskIO{
			Stdin:    cfg.Streams.Stdin,
			Stdout:   cfg.Streams.Stdout,
			Stderr:   cfg.Streams.Stderr,
			Terminal: cfg.Streams.Terminal,
		},
		Checkpoint: cfg.Checkpoint,
		Pid:        uint32(pid),
	}
}

// writeBundle leaves in the bundle what cleans up after this shim.
func (c *Container) writeBundle(m *made) error {
	o := m.options
	o.SystemdCgroup = m.systemd
	if err := c.bundle.WriteOptions(o); err != nil {
		return err
	}
	return c.bundle.WriteShimBinary(c.set.env.Executable)
}

func (c *Container) newRuntime(m *made) (*oci.Runtime, error) {
	env := c.set.env
	root := m.options.Root
	if root == "" {
		root = env.RuntimeRoot
	}
	return oci.New(oci.Config{
		Binary:        m.options.BinaryName,
		Root:          filepath.Join(root, env.Namespace),
		SystemdCgroup: m.systemd,
		Bundle:        c.bundle.Path(),
		Deadlines:     env.Deadlines,
		Children:      env.Reaper,
		Known:         env.Known,
		Manager:       env.Manager,
		Observe:       env.Meter.Called,
	})
}

// mountRootfs mounts the root filesystem. Without mounts the bundle's spec names
// a directory that somebody else has made.
func (c *Container) mountRootfs(ctx context.Context, mounts []*types.Mount) (bool, error) {
	if len(mounts) == 0 {
		return false, nil
	}
	all := make([]mount.Mount, 0, len(mounts))
	for _, m := range mounts {
		all = append(all, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	ctx, cancel := context.WithTimeout(ctx, c.set.env.Deadlines.Mount)
	defer cancel()
	if err := c.bundle.MountRootfs(ctx, all); err != nil {
		c.overdue("mount", err)
		return false, fmt.Errorf("container %q: %w", c.id, err)
	}
	return true, nil
}

func (c *Container) unmountRootfs(m *made) error {
	if !m.mounted {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.set.env.Deadlines.Mount)
	defer cancel()
	if err := c.bundle.UnmountRootfs(ctx); err != nil {
		c.overdue("unmount", err)
		return fmt.Errorf("container %q: %w", c.id, err)
	}
	return nil
}

// overdue counts a step whose error says that it took too long.
func (c *Container) overdue(step string, err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		c.set.env.Meter.Overdue(step)
	}
}
