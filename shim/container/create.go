// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/reaper"
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
func (c *Container) create(ctx context.Context, cfg CreateConfig, h *handle, result *created) (retErr error) {
	var undo []func() error
	defer func() {
		for i := len(undo) - 1; retErr != nil && i >= 0; i-- {
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

func (c *Container) openIO(ctx context.Context, o bundle.Options, id string, s stdio.Streams) (*stdio.IO, error) {
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
