// SPDX-License-Identifier: Apache-2.0

package container

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// recorder keeps the events in the order of their publishing.
type recorder struct {
	mu      sync.Mutex
	events  []any
	changed chan struct{} // closed, and made anew, with each event
}

func (r *recorder) Publish(_ string, event any, _ time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
	close(r.changed)
	r.changed = make(chan struct{})
}

// names are the events so far, told in short.
func (r *recorder) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, e := range r.events {
		names = append(names, eventName(e))
	}
	return names
}

func eventName(e any) string {
	switch e := e.(type) {
	case *events.TaskCreate:
		return "create " + e.ContainerID
	case *events.TaskStart:
		return "start " + e.ContainerID
	case *events.TaskExecAdded:
		return "added " + e.ExecID
	case *events.TaskExecStarted:
		return "exec " + e.ExecID
	case *events.TaskExit:
		return "exit " + e.ID
	case *events.TaskDelete:
		return "delete " + e.ContainerID
	case *events.TaskPaused:
		return "paused " + e.ContainerID
	case *events.TaskResumed:
		return "resumed " + e.ContainerID
	case *events.TaskOOM:
		return "oom " + e.ContainerID
	}
	return "unknown"
}

// await waits until an event was published.
func (r *recorder) await(t testing.TB, name string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if slices.Contains(r.names(), name) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no event %q: %v", name, r.names())
		}
	}
}

// oomWatched is a watch that sees what it is told to see.
type oomWatched struct {
	mu      sync.Mutex
	ids     []string
	checked func(id string) // called by Check
	ended   func(id string) // called by Ended
}

func (o *oomWatched) Add(id string, _ *cgroup.Cgroup) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids = append(o.ids, id)
	return nil
}

func (o *oomWatched) Check(id string) bool { return o.ask(&o.checked, id) }
func (o *oomWatched) Ended(id string) bool { return o.ask(&o.ended, id) }

func (o *oomWatched) ask(of *func(string), id string) bool {
	o.mu.Lock()
	f := *of
	o.mu.Unlock()
	if f != nil {
		f(id)
	}
	return f != nil
}

func (o *oomWatched) State(id string) (cgroup.OOMState, bool) {
	return cgroup.OOMState{}, slices.Contains(o.watched(), id)
}

func (o *oomWatched) Resume(id string, c *cgroup.Cgroup, _ cgroup.OOMState) error {
	return o.Add(id, c)
}

func (o *oomWatched) Remove(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids = slices.DeleteFunc(o.ids, func(i string) bool { return i == id })
}

func (o *oomWatched) watched() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.ids)
}
