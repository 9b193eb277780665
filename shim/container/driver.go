// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	topics "github.com/quoin-io/quoin/shim/events"
	"github.com/quoin-io/quoin/shim/ledger"
)

// run drives the machine until the container is deleted. It is the only
// goroutine that touches the machine and it waits for nothing but the inbox.
func (c *Container) run() {
	for c.m.init.phase != phaseDeleted {
		select {
		case ev := <-c.inbox:
			effects := c.m.step(ev)
			c.view.Store(c.m.snapshot())
			for _, e := range effects {
				e.perform(c)
			}
		case c.parking = <-c.parks:
		}
		c.rest()
	}
}

// post hands an event to the driver; a retired container takes none.
func (c *Container) post(ev event) {
	select {
	case c.inbox <- ev:
	case <-c.retired:
	}
}

// ask sends a request and waits for its answer, or for ctx.
func (c *Container) ask(ctx context.Context, request func(*call) event) outcome {
	to := &call{ctx: context.WithoutCancel(ctx), done: make(chan outcome, 1)}
	select {
	case c.inbox <- request(to):
	case <-c.retired:
		return c.gone()
	case <-ctx.Done():
		return outcome{err: ctx.Err()}
	}
	return c.await(ctx, to)
}

func (c *Container) await(ctx context.Context, to *call) outcome {
	select {
	case out := <-to.done:
		return out
	case <-ctx.Done():
		return outcome{err: ctx.Err()}
	case <-c.retired:
		select {
		case out := <-to.done:
			return out
		default:
			return c.gone()
		}
	}
}

func (c *Container) gone() outcome {
	return outcome{err: fmt.Errorf("container %q is deleted: %w", c.id, errdefs.ErrNotFound)}
}

// work runs an operation beside the driver and posts its result. A panic is the
// operation's error, not the end of the pod.
func (c *Container) work(op func() error, result func(error) event) {
	go func() { c.post(result(guard(op))) }()
}

func guard(op func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log.L.Errorf("panic in an operation: %v\n%s", r, debug.Stack())
			err = fmt.Errorf("panic: %v: %w", r, errdefs.ErrInternal)
		}
	}()
	return op()
}

func (e answer) perform(*Container) {
	if e.to != nil {
		e.to.done <- e.out
	}
}

func (leave) perform(c *Container)  { c.set.remove(c) }
func (retire) perform(c *Container) { close(c.retired) }

func (e announce) perform(*Container) { e.h.announce(e.exit) }

func (e finish) perform(c *Container) {
	io := e.h.attached()
	if io == nil {
		return
	}
	go func() {
		defer e.h.finished.Store(true)
		err := guard(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), c.set.env.Deadlines.Drain)
			defer cancel()
			return io.Finish(ctx, c.set.env.Deadlines.Linger)
		})
		if err != nil {
			c.log().WithError(err).Warn("output is left that nobody reads")
		}
	}()
}

func (e startOp) perform(c *Container) {
	pid := 0
	c.work(func() (err error) {
		pid, err = c.start(e)
		return err
	}, func(err error) event { return started{exec: e.exec, pid: pid, err: err, at: time.Now()} })
}

func (e deleteOp) perform(c *Container) {
	ending := c.ending
	c.work(func() error { return c.delete(e, ending) }, func(err error) event { return deleted{exec: e.exec, err: err} })
}

func (e freezeOp) perform(c *Container) {
	c.work(func() error { return c.freeze(e) }, func(err error) event { return frozen{pause: e.pause, err: err, to: e.to} })
}

func (e record) perform(c *Container) {
	c.work(func() error {
		return c.within(c.set.env.Deadlines.Record, "record the exit", func() error { return c.record(e) })
	}, func(err error) event {
		if err != nil {
			// It is told all the same: nobody else knows this exit.
			c.log().WithError(err).WithField("exec", e.exec).Error("the exit could not be recorded")
		}
		return recorded{exec: e.exec}
	})
}

func (killInit) perform(c *Container) {
	if err := c.m.init.h.signal(unix.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
		c.log().WithError(err).Error("end the init that was never started")
	}
}

func (killAll) perform(c *Container) {
	before, done := c.ending, make(chan struct{})
	c.ending = done
	go func() {
		if err := guard(c.killLeftovers); err != nil {
			c.log().WithError(err).Error("end what the init left behind")
		}
		if before != nil {
			<-before
		}
		close(done)
		c.post(nudge{})
	}()
}

func (watchExecs) perform(c *Container) {
	c.watchOverdue(c.set.env.Deadlines.Drain)
}

func (e watchStart) perform(c *Container) { e.h.hurry(c.set.env.Deadlines.Drain) }

func (c *Container) publish(topic string, ev any) {
	c.set.env.Publisher.Publish(topic, ev, time.Now())
}

func (e publish) perform(c *Container) { c.publish(topics.TopicCreate, e.event) }

func (e publishExecAdded) perform(c *Container) {
	c.publish(topics.TopicExecAdded, &events.TaskExecAdded{ContainerID: c.id, ExecID: e.exec})
}

func (e publishStart) perform(c *Container) {
	if e.exec == "" {
		c.publish(topics.TopicStart, &events.TaskStart{ContainerID: c.id, Pid: uint32(e.pid)})
		return
	}
	c.publish(topics.TopicExecStarted, &events.TaskExecStarted{ContainerID: c.id, ExecID: e.exec, Pid: uint32(e.pid)})
}

func (e publishExit) perform(c *Container) {
	c.set.env.Meter.Exited(e.exec != "", e.exit)
	id := e.exec
	if id == "" {
		id = c.id
	}
	c.publish(topics.TopicExit, &events.TaskExit{
		ContainerID: c.id,
		ID:          id,
		Pid:         uint32(e.pid),
		ExitStatus:  uint32(e.exit.Status),
		ExitedAt:    timestamppb.New(e.exit.At),
	})
}

func (e publishDelete) perform(c *Container) {
	ev := &events.TaskDelete{ContainerID: c.id, Pid: uint32(e.pid), ExitStatus: uint32(e.exit.Status)}
	if !e.exit.At.IsZero() {
		ev.ExitedAt = timestamppb.New(e.exit.At)
	}
	c.publish(topics.TopicDelete, ev)
}

func (e publishFreeze) perform(c *Container) {
	if e.pause {
		c.publish(topics.TopicPaused, &events.TaskPaused{ContainerID: c.id})
		return
	}
	c.publish(topics.TopicResumed, &events.TaskResumed{ContainerID: c.id})
}

// record puts an exit on disk. Before the init's, the kernel is asked about OOM
// kills, and the last statistics are kept where the cgroup may vanish with its
// last process.
func (c *Container) record(e record) error {
	if e.exec == "" {
		c.lastLook(e.exit.Status)
	}
	entry := ledger.Exit{
		At: e.exit.At, Pid: e.pid, Status: e.exit.Status, Signal: int(e.exit.Signal),
		Unknown: e.exit.Unknown, OOM: c.oomKilled.Load(),
	}
	if e.exec != "" {
		return ledger.RecordExec(c.bundle.Path(), e.exec, entry)
	}
	return ledger.Record(c.bundle.Path(), entry)
}
