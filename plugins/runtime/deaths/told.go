// SPDX-License-Identifier: Apache-2.0

package deaths

import (
	"context"
	"sync"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
)

// Told remembers of each task whether its exit and its deletion were told to the
// daemon's subscribers.
type Told struct {
	mu    sync.Mutex
	tasks map[task]*telling // guarded by mu
}

type task struct{ namespace, id string }

// telling is what was told of a task: the pids of the inits whose exit and whose
// deletion were told, 0 for none. Another task of the same id may have begun before all
// was told of the one before it, and its init has another pid. A task that the daemon
// does not have, or not any more, is remembered until its deletion is told.
type telling struct {
	exit, deletion uint32
	live           bool
}

// repeated says whether something was told of this pid, and notes that it is. A daemon
// that does not know the pid means the last one.
func repeated(told *uint32, pid uint32) bool {
	again := *told != 0 && (pid == *told || pid == 0)
	if pid != 0 {
		*told = pid
	}
	return again
}

// NewTold remembers nothing yet: what an earlier daemon told, it told others.
func NewTold() *Told { return &Told{tasks: map[task]*telling{}} }

// Live says that the daemon has a task, until Forget.
func (o *Told) Live(namespace, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.task(namespace, id).live = true
}

// Forget says that the daemon has a task no more.
func (o *Told) Forget(namespace, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.tasks, task{namespace, id})
}

// Len counts the tasks that something is remembered of.
func (o *Told) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.tasks)
}

// Note takes note of an event that is to be told, and says whether it is the exit or
// the deletion of a task that was told before: then it must not be told again.
func (o *Told) Note(e *events.Envelope) (again bool) {
	switch e.Topic {
	case runtime.TaskCreateEventTopic, runtime.TaskExitEventTopic, runtime.TaskDeleteEventTopic:
	default:
		return false
	}
	event, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return false // it is for its readers to complain
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch event := event.(type) {
	case *eventtypes.TaskCreate: // another life
		t := o.task(e.Namespace, event.ContainerID)
		t.exit, t.deletion = 0, 0
	case *eventtypes.TaskExit:
		if event.ID != event.ContainerID {
			return false
		}
		again = repeated(&o.task(e.Namespace, event.ContainerID).exit, event.Pid)
	case *eventtypes.TaskDelete:
		if event.ID != "" && event.ID != event.ContainerID {
			return false // of an exec
		}
		t := o.task(e.Namespace, event.ContainerID)
		again = repeated(&t.deletion, event.Pid)
		if !t.live {
			delete(o.tasks, task{e.Namespace, event.ContainerID})
		}
	}
	return again
}

// task is called with mu held.
func (o *Told) task(namespace, id string) *telling {
	key := task{namespace, id}
	t := o.tasks[key]
	if t == nil {
		t = &telling{}
		o.tasks[key] = t
	}
	return t
}

// Pass forwards what containerd tells of tasks whose shims have died, which comes
// from an exchange of its own, but for what was told already. After the deletion it
// calls gone: that is the last that is told of a task. It returns once it listens,
// and goes on until ctx ends.
func (o *Told) Pass(ctx context.Context, from events.Subscriber, to events.Forwarder, gone func(namespace, id string)) {
	envelopes, failures := from.Subscribe(ctx)
	go func() {
		for {
			select {
			case e := <-envelopes:
				o.pass(ctx, e, to, gone)
			case err := <-failures:
				if err != nil && ctx.Err() == nil {
					log.G(ctx).WithError(err).Error("the ends of containers whose shims die are not told any more")
				}
				return
			}
		}
	}()
}

func (o *Told) pass(ctx context.Context, e *events.Envelope, to events.Forwarder, gone func(namespace, id string)) {
	if !o.Note(e) {
		if err := to.Forward(ctx, e); err != nil {
			log.G(ctx).WithError(err).WithField("topic", e.Topic).Error("tell of a container whose shim has died")
		}
	}
	if e.Topic != runtime.TaskDeleteEventTopic {
		return
	}
	event, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return
	}
	if deletion, ok := event.(*eventtypes.TaskDelete); ok {
		o.Forget(e.Namespace, deletion.ContainerID)
		gone(e.Namespace, deletion.ContainerID)
	}
}
