// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
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
		for i := len(undo) - 1; !whole && i >= 0; i-- {
			// The client is told why the create failed; this is for the log.
			if err := undo[i](); err != nil {
				c.log().WithError(err).Warn("clean up after a failed create")
			}
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
	if m.mounted, err = c.mountRootfs(cfg.Rootfs); err != nil {
		return err
	}
	undo = append(undo, func() error { return c.unmountRootfs(m) })

	io, err := c.openIO(ctx, cfg.Options, cfg.ID, cfg.Streams)
	if err != nil {
		return err
	}
	undo = append(undo, io.Close)
	if err := h.attach(io); err != nil {
		return err
	}
	if cfg.Checkpoint != "" {
		m.restore = c.restoreOptions(cfg)
	} else {
		begun := time.Now()
		undo = append(undo, func() error { return c.abort(m, begun) })
		if result.pid, err = c.createInit(ctx, m, h, io); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("create container %q: the client has gone: %w", c.id, err)
		}
		c.watchCgroup(m, result.pid)
	}
	c.made.Store(m)
	result.restore, result.killOnExit = m.restore != nil, m.killOnExit
	result.event = createEvent(cfg, result.pid)
	whole = true
	return nil
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
		Observe:       env.Meter.Called,
	})
}

// mountRootfs mounts the root filesystem. Without mounts the bundle's spec names
// a directory that somebody else has made.
func (c *Container) mountRootfs(mounts []*types.Mount) (bool, error) {
	if len(mounts) == 0 {
		return false, nil
	}
	target := c.bundle.RootfsPath()
	if err := os.Mkdir(target, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return false, fmt.Errorf("make the mount point of the rootfs: %w", err)
	}
	all := make([]mount.Mount, 0, len(mounts))
	for _, m := range mounts {
		all = append(all, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	if err := mount.All(all, target); err != nil {
		err = fmt.Errorf("mount the rootfs of container %q: %w", c.id, err)
		return false, errors.Join(err, mount.UnmountRecursive(target, 0))
	}
	return true, nil
}

// unmountRootfs is quick where it can be: most often there is one mount, and the
// table of all mounts of the node need not be read.
func (c *Container) unmountRootfs(m *made) error {
	if !m.mounted {
		return nil
	}
	target := c.bundle.RootfsPath()
	if unix.Unmount(target, unix.UMOUNT_NOFOLLOW) == nil && unix.Unmount(target, unix.UMOUNT_NOFOLLOW) == unix.EINVAL {
		return nil
	}
	if err := mount.UnmountRecursive(target, 0); err != nil {
		return fmt.Errorf("unmount the rootfs of container %q: %w", c.id, err)
	}
	return nil
}

// awaitSettled keeps a logging program, which stays, out of the cgroup that the
// shim is about to leave.
func (c *Container) awaitSettled(ctx context.Context, s stdio.Streams) error {
	if c.set.env.Settled == nil || !strings.HasPrefix(s.Stdout, "binary") {
		return nil
	}
	select {
	case <-c.set.env.Settled:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the shim's own cgroup: %w", ctx.Err())
	}
}

func (c *Container) openIO(ctx context.Context, o bundle.Options, id string, s stdio.Streams) (*stdio.IO, error) {
	if err := c.awaitSettled(ctx, s); err != nil {
		return nil, err
	}
	io, err := stdio.Open(ctx, s, stdio.Options{
		ID:        id,
		Namespace: c.set.env.Namespace,
		UID:       o.IoUID,
		GID:       o.IoGID,
		Dir:       c.set.env.SocketDir,
		Deadlines: c.set.env.Deadlines,
		Children:  c.set.env.Reaper,
	})
	if err != nil {
		return nil, fmt.Errorf("open the streams of %q: %w", id, err)
	}
	return io, nil
}
