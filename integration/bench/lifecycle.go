// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
)

// phases are the durations of the parts of a process's life, by name, in
// milliseconds.
type phases map[string]float64

// stopwatch notes how long each step took since the one before.
type stopwatch struct {
	began, last time.Time
	laps        phases
}

func newStopwatch() *stopwatch {
	now := time.Now()
	return &stopwatch{now, now, phases{}}
}

func (w *stopwatch) lap(phase string) {
	now := time.Now()
	w.laps[phase] = milliseconds(now.Sub(w.last))
	w.last = now
}

func (w *stopwatch) total() phases {
	w.laps["total"] = milliseconds(w.last.Sub(w.began))
	return w.laps
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// lifecycle runs a task of a container that has been prepared, from create to
// delete: what the image store does is not in it, but for the question where
// the snapshot is mounted from.
func (s *subject) lifecycle(ctx context.Context, c containerd.Container, creator cio.Creator) (phases, error) {
	ctx = s.context(ctx)
	watch := newStopwatch()
	task, err := c.NewTask(ctx, creator)
	if err != nil {
		return nil, fmt.Errorf("%s: create %s: %w", s.name, c.ID(), err)
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: wait for %s: %w", s.name, c.ID(), err)
	}
	watch.lap("create")
	if err := task.Start(ctx); err != nil {
		return nil, fmt.Errorf("%s: start %s: %w", s.name, c.ID(), err)
	}
	watch.lap("start")
	if err := succeeded(<-exit); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s.name, c.ID(), err)
	}
	watch.lap("exit")
	if _, err := task.Delete(ctx); err != nil {
		return nil, fmt.Errorf("%s: delete the task %s: %w", s.name, c.ID(), err)
	}
	watch.lap("delete")
	return watch.total(), nil
}

// run is a lifecycle with all that a client does around it: a snapshot, a
// container, its task, and the removal of the three.
func (s *subject) run(ctx context.Context, id string) (phases, error) {
	watch := newStopwatch()
	c, err := s.newContainer(ctx, id, "true")
	if err != nil {
		return nil, err
	}
	if _, err := s.lifecycle(ctx, c, fifoIO()); err != nil {
		return nil, err
	}
	if err := s.removeContainer(ctx, c); err != nil {
		return nil, err
	}
	watch.last = time.Now()
	return watch.total(), nil
}

// exec runs a program in a running container, from create to delete.
func (p *sleeper) exec(ctx context.Context, id string) (phases, error) {
	s := p.subject
	ctx = s.context(ctx)
	spec, err := p.container.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: read the specification of %s: %w", s.name, p.task.ID(), err)
	}
	if err := oci.WithProcessArgs("true")(ctx, nil, nil, spec); err != nil {
		return nil, fmt.Errorf("make the exec's specification: %w", err)
	}
	watch := newStopwatch()
	process, err := p.task.Exec(ctx, id, spec.Process, cio.NullIO)
	if err != nil {
		return nil, fmt.Errorf("%s: exec in %s: %w", s.name, p.task.ID(), err)
	}
	exit, err := process.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: wait for the exec in %s: %w", s.name, p.task.ID(), err)
	}
	watch.lap("create")
	if err := process.Start(ctx); err != nil {
		return nil, fmt.Errorf("%s: start the exec in %s: %w", s.name, p.task.ID(), err)
	}
	watch.lap("start")
	if err := succeeded(<-exit); err != nil {
		return nil, fmt.Errorf("%s: the exec in %s: %w", s.name, p.task.ID(), err)
	}
	watch.lap("exit")
	if _, err := process.Delete(ctx); err != nil {
		return nil, fmt.Errorf("%s: delete the exec in %s: %w", s.name, p.task.ID(), err)
	}
	watch.lap("delete")
	return watch.total(), nil
}

func succeeded(status containerd.ExitStatus) error {
	code, _, err := status.Result()
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("exit code %d of a program that cannot fail", code)
	}
	return nil
}
