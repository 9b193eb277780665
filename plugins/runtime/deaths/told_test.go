// SPDX-License-Identifier: Apache-2.0

package deaths

import (
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/core/events/exchange"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/typeurl/v2"
)

func envelope(t *testing.T, topic string, event any) *events.Envelope {
	t.Helper()
	encoded, err := typeurl.MarshalAny(event)
	if err != nil {
		t.Fatal(err)
	}
	return &events.Envelope{Timestamp: time.Now(), Namespace: "ns", Topic: topic, Event: encoded}
}

const firstPid, secondPid = 7, 8

func creation(t *testing.T) *events.Envelope {
	return envelope(t, runtime.TaskCreateEventTopic, &eventtypes.TaskCreate{ContainerID: "c"})
}

func exit(t *testing.T, id string) *events.Envelope {
	return envelope(t, runtime.TaskExitEventTopic, &eventtypes.TaskExit{ContainerID: "c", ID: id, Pid: firstPid})
}

func deletion(t *testing.T, exec string) *events.Envelope {
	return envelope(t, runtime.TaskDeleteEventTopic, &eventtypes.TaskDelete{ContainerID: "c", ID: exec, Pid: firstPid})
}

// TestNote: each exit and deletion of a task's life is told once, those of execs are
// the shim's business, and nothing is remembered in the end.
func TestNote(t *testing.T) {
	o := NewTold()
	told := func(e *events.Envelope, again bool) {
		t.Helper()
		if got := o.Note(e); got != again {
			t.Errorf("%s: again is %t, want %t", e.Topic, got, again)
		}
	}
	for range 2 { // another life begins anew
		told(creation(t), false)
		o.Live("ns", "c")
		told(exit(t, "e"), false)
		told(exit(t, "e"), false)
		told(exit(t, "c"), false)
		told(exit(t, "c"), true)
		told(deletion(t, "e"), false)
		told(deletion(t, ""), false)
		told(exit(t, "c"), true)
		told(deletion(t, ""), true)
		told(envelope(t, "/tasks/oom", &eventtypes.TaskOOM{ContainerID: "c"}), false)
	}
	o.Forget("ns", "c")
	if n := o.Len(); n != 0 {
		t.Errorf("%d tasks are remembered", n)
	}
	// Events that are late, of a task that is gone.
	told(creation(t), false)
	told(exit(t, "c"), false)
	told(deletion(t, ""), false)
	if n := o.Len(); n != 0 {
		t.Errorf("%d tasks are remembered that are gone", n)
	}
}

// TestNoteOfTwoLives: what is told late of the task before does not hide what is told
// of this one.
func TestNoteOfTwoLives(t *testing.T) {
	o := NewTold()
	o.Live("ns", "c")
	own := func(pid uint32) bool {
		return o.Note(envelope(t, runtime.TaskExitEventTopic, &eventtypes.TaskExit{ContainerID: "c", ID: "c", Pid: pid}))
	}
	o.Note(creation(t))
	if own(0) {
		t.Error("an exit of a pid that nobody knows, and of which nothing was told, is held back")
	}
	if own(firstPid) || !own(firstPid) {
		t.Error("the exit of the task before is not told once")
	}
	if own(secondPid) || !own(secondPid) {
		t.Error("the exit of this one is not told once")
	}
	if !own(0) {
		t.Error("an exit is told again by a daemon that knows no pid")
	}
}

// TestPass passes on what was not told, and says when all was.
func TestPass(t *testing.T) {
	o, from, to := NewTold(), exchange.NewExchange(), exchange.NewExchange()
	ctx := namespaces.WithNamespace(t.Context(), "ns")
	heard, _ := to.Subscribe(ctx)
	gone := make(chan string, 1)
	o.Pass(ctx, from, to, func(namespace, id string) { gone <- namespace + " " + id })
	o.Live("ns", "c")
	o.Note(exit(t, "c")) // by its shim
	if err := from.Publish(ctx, runtime.TaskExitEventTopic, &eventtypes.TaskExit{ContainerID: "c", ID: "c", Pid: firstPid}); err != nil {
		t.Fatal(err)
	}
	if err := from.Publish(ctx, runtime.TaskDeleteEventTopic, &eventtypes.TaskDelete{ContainerID: "c", Pid: firstPid}); err != nil {
		t.Fatal(err)
	}
	if got := <-gone; got != "ns c" || o.Len() != 0 {
		t.Errorf("gone: %q, %d are remembered", got, o.Len())
	}
	if e := <-heard; e.Topic != runtime.TaskDeleteEventTopic || e.Namespace != "ns" {
		t.Errorf("the first that is told is %s of %q", e.Topic, e.Namespace)
	}
}
