// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/oci"
)

// Kill sends a signal to the init ("") or an exec, or with all to every process
// of the container. It waits for no operation. It is ErrNotFound when the
// process has ended and ErrFailedPrecondition when it has not been started.
func (c *Container) Kill(ctx context.Context, exec string, signal unix.Signal, all bool) error {
	_, p, err := c.process(exec)
	if err != nil {
		return err
	}
	if p.phase >= phaseStopped {
		return fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	}
	if exec != "" {
		return p.h.signal(signal)
	}
	m, err := c.ready()
	if err != nil {
		return err
	}
	if signal == unix.SIGKILL {
		c.killAsked.Store(true)
	}
	// In a PID namespace of its own the init takes all with it. Where it has none
	// SIGKILL means the whole container, as it does for runc.
	if m.cgroup != nil && (all || signal == unix.SIGKILL && m.killOnExit) {
		return c.killSoon(ctx, m, signal)
	}
	if all {
		return m.runtime.Kill(ctx, c.id, int(signal), true)
	}
	if err := p.h.signal(signal); err != nil {
		return err
	}
	if signal == unix.SIGKILL && m.cgroup != nil && m.cgroup.Mode() != cgroup.Unified {
		return c.thawToDie(ctx, m)
	}
	return nil
}

// killPatience is how long a Kill waits for the processes' end. What is stuck in the
// kernel does not die before it comes out: whoever waits for its exit is told then.
const killPatience = time.Second

// killSoon signals the processes in the cgroup. All have the signal when it returns.
func (c *Container) killSoon(ctx context.Context, m *made, signal unix.Signal) error {
	ours, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	err := m.cgroup.Kill(ours, signal)
	switch {
	case errdefs.IsFailedPrecondition(err):
		// It is shared. A runtime that is late, unlike processes, has killed nothing.
		return c.killByRuntime(ctx, m, signal)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		c.set.env.Meter.Overdue("kill")
		c.log().WithError(err).Warn("processes were killed and do not end")
		return nil
	}
	return err
}

func (c *Container) killCgroup(ctx context.Context, m *made, signal unix.Signal) error {
	err := m.cgroup.Kill(ctx, signal)
	if errdefs.IsFailedPrecondition(err) {
		return c.killByRuntime(ctx, m, signal)
	}
	return err
}

// killByRuntime is for a container that shares a cgroup with others, which are not
// to be killed.
func (c *Container) killByRuntime(ctx context.Context, m *made, signal unix.Signal) error {
	return m.runtime.Kill(ctx, c.id, int(signal), true)
}

// thawToDie thaws a container that cgroup v1 has frozen: it could not die.
func (c *Container) thawToDie(ctx context.Context, m *made) error {
	if c.view.Load().freezer == thawed {
		return nil
	}
	if err := c.thaw(ctx, m); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("thaw the killed container: %w", err)
	}
	return nil
}

func (c *Container) thaw(ctx context.Context, m *made) error {
	ctx, cancel := context.WithTimeout(ctx, c.set.env.Deadlines.Control)
	defer cancel()
	return m.cgroup.Thaw(ctx)
}

// killLeftovers ends what an init without a PID namespace of its own has left.
func (c *Container) killLeftovers() error {
	m := c.made.Load()
	ctx, cancel := context.WithTimeout(context.Background(), c.set.env.Deadlines.Control)
	defer cancel()
	var err error
	if m.cgroup != nil {
		err = c.killCgroup(ctx, m, unix.SIGKILL)
	} else {
		err = m.runtime.Kill(ctx, c.id, int(unix.SIGKILL), true)
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// freeze pauses or resumes through the cgroup's own files, or through the OCI
// runtime for a container without a freezer that this shim can see.
func (c *Container) freeze(e freezeOp) error {
	m := c.made.Load()
	ctx, cancel := context.WithTimeout(e.to.ctx, c.set.env.Deadlines.Control)
	defer cancel()
	err := fmt.Errorf("no cgroup: %w", errdefs.ErrNotImplemented)
	if m.cgroup != nil {
		if e.pause {
			err = m.cgroup.Freeze(ctx)
		} else {
			err = m.cgroup.Thaw(ctx)
		}
	}
	switch {
	case !errdefs.IsNotImplemented(err) && !errdefs.IsFailedPrecondition(err):
		return err
	case e.pause:
		return m.runtime.Pause(ctx, c.id)
	}
	return m.runtime.Resume(ctx, c.id)
}

// Update changes the limits of a container that has not ended. resources is the
// JSON of a LinuxResources.
func (c *Container) Update(ctx context.Context, resources []byte) error {
	m, err := c.alive("update")
	if err != nil {
		return err
	}
	var r specs.LinuxResources
	if err := json.Unmarshal(resources, &r); err != nil {
		return fmt.Errorf("resources of container %q are no LinuxResources: %w: %w", c.id, err, errdefs.ErrInvalidArgument)
	}
	return m.runtime.Update(context.WithoutCancel(ctx), c.id, resources)
}

// Checkpoint writes the container's state to disk with criu; unless it is left
// running, its processes end.
func (c *Container) Checkpoint(ctx context.Context, o oci.CheckpointOptions) error {
	m, err := c.alive("checkpoint")
	if err != nil {
		return err
	}
	if c.view.Load().init.phase == phaseCreated {
		return &StateError{Container: c.id, State: phaseCreated.String(), Action: "checkpoint"}
	}
	if o.ImagePath == "" {
		o.ImagePath = m.options.CriuImagePath
	}
	if o.ImagePath == "" {
		return fmt.Errorf("checkpoint of container %q: no image path was given: %w", c.id, errdefs.ErrInvalidArgument)
	}
	if o.WorkPath == "" {
		work, err := os.MkdirTemp(c.bundle.WorkPath(), "criu-work-")
		if err != nil {
			return fmt.Errorf("checkpoint of container %q: %w", c.id, err)
		}
		defer os.RemoveAll(work)
		o.WorkPath = work
	}
	if err := m.runtime.Checkpoint(ctx, c.id, o); err != nil {
		c.letGo(m)
		return fmt.Errorf("checkpoint of container %q: %w", c.id, err)
	}
	return nil
}

// letGo thaws a container whose checkpoint failed: one that was killed in the middle
// leaves it frozen.
func (c *Container) letGo(m *made) {
	if m.cgroup == nil || c.view.Load().freezer != thawed {
		return
	}
	err := c.thaw(context.Background(), m)
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsNotImplemented(err) {
		c.log().WithError(err).Warn("thaw after a failed checkpoint")
	}
}

// alive returns what the create made, if the init has not ended.
func (c *Container) alive(action string) (*made, error) {
	m, err := c.ready()
	if err != nil {
		return nil, err
	}
	if p := c.view.Load().init; p.phase >= phaseExiting || p.pid == 0 {
		return nil, &StateError{Container: c.id, State: p.phase.String(), Action: action}
	}
	return m, nil
}
