// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	topics "github.com/quoin-io/quoin/shim/events"
)

// ProcessInfo is a process of the container, and the exec it is, if any.
type ProcessInfo struct {
	Pid  int
	Exec string
}

// Pids lists the container's processes. It is ErrFailedPrecondition once the
// init has ended: an empty list, or ErrNotFound, would make a containerd that
// restarts take the shim for a leaked one and drop the exit status that it keeps
// (core/runtime/v2/shim_load.go). For the same daemon's sake it waits for a create
// that is under way: one whose daemon has gone comes to nothing, and then the
// shim, which is ErrNotFound's meaning, serves nobody.
func (c *Container) Pids(ctx context.Context) ([]ProcessInfo, error) {
	select {
	case <-c.settled:
	case <-ctx.Done():
		return nil, fmt.Errorf("container %q is still being created: %w", c.id, ctx.Err())
	}
	select {
	case <-c.retired:
		return nil, c.gone().err
	default:
	}
	m, err := c.ready()
	if err != nil {
		return nil, err
	}
	v := c.view.Load()
	if v.init.phase >= phaseStopped {
		return nil, &StateError{Container: c.id, State: v.init.phase.String(), Action: "list the processes of"}
	}
	var pids []int
	if m.cgroup != nil {
		pids, err = m.cgroup.Pids()
	}
	if m.cgroup == nil || errdefs.IsNotFound(err) {
		pids, err = m.runtime.Ps(ctx, c.id)
	}
	if err != nil {
		return nil, fmt.Errorf("processes of container %q: %w", c.id, err)
	}
	execs := make(map[int]string, len(v.execs))
	for id, p := range v.execs {
		if p.phase == phaseRunning {
			execs[p.pid] = id
		}
	}
	infos := make([]ProcessInfo, 0, len(pids)+1)
	for _, pid := range pids {
		infos = append(infos, ProcessInfo{Pid: pid, Exec: execs[pid]})
	}
	if len(infos) == 0 && v.init.pid != 0 {
		// It is just ending: it counts until its exit has been told.
		infos = append(infos, ProcessInfo{Pid: v.init.pid})
	}
	return infos, nil
}

// Stats returns the cgroup's statistics, until the container is deleted: those
// of its end when the cgroup went with its last process.
func (c *Container) Stats(ctx context.Context) (*anypb.Any, error) {
	m, err := c.ready()
	if err != nil {
		return nil, err
	}
	stats, err := m.cgroup.Stats(ctx)
	if errdefs.IsNotFound(err) {
		if last := c.lastStats.Load(); last != nil {
			return last, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("statistics of container %q: %w", c.id, err)
	}
	return stats, nil
}

// lastLook asks the cgroup what it knows before an exit is recorded: OOM kills
// that the kernel has not notified yet, and the statistics where systemd removes
// the cgroup of a scope with its last process.
func (c *Container) lastLook(status int) {
	m := c.made.Load()
	if m == nil || m.cgroup == nil {
		return
	}
	// The status is a shell's, too, of a child that was killed.
	if status == 128+int(unix.SIGKILL) && !c.killAsked.Load() {
		c.set.env.OOM.Ended(c.id)
	} else {
		c.set.env.OOM.Check(c.id)
	}
	if !m.systemd {
		return
	}
	if stats, err := m.cgroup.Stats(context.Background()); err == nil {
		c.lastStats.Store(stats)
	}
}

// OOMKilled tells of an OOM kill in a container. It waits for nothing.
func (s *Set) OOMKilled(id string) {
	c, err := s.Get(id)
	if err != nil {
		return
	}
	c.oomKilled.Store(true)
	s.env.Meter.OOMKilled()
	c.publish(topics.TopicOOM, &events.TaskOOM{ContainerID: id})
}
