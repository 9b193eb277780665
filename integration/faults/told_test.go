// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"

	"github.com/quoin-io/quoin/integration/harness"
)

// told is what the daemon has told its subscribers of one container's processes,
// in order.
type told struct {
	id string

	mu   sync.Mutex
	all  []telling     // guarded by mu
	more chan struct{} // guarded by mu; closed when all grows
	fail error         // guarded by mu
}

// telling is the start or the exit of a process; exec is "" for the init.
type telling struct {
	exec   string
	exit   bool
	pid    uint32
	status uint32
}

func (e telling) String() string {
	name := e.exec
	if name == "" {
		name = "init"
	}
	if e.exit {
		return fmt.Sprintf("%s (%d) exited with %d", name, e.pid, e.status)
	}
	return fmt.Sprintf("%s (%d) started", name, e.pid)
}

// listen collects, until the test ends, the events of a container that is yet to
// be made.
func listen(t *testing.T, d *harness.Daemon, id string) *told {
	t.Helper()
	ctx, cancel := context.WithCancel(d.Context(t, ""))
	o := &told{id: id, more: make(chan struct{})}
	envelopes, failures := d.Client().EventService().Subscribe(ctx, `topic~="/tasks/"`)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case envelope := <-envelopes:
				event, err := typeurl.UnmarshalAny(envelope.Event)
				if err != nil {
					o.failed(err)
					return
				}
				o.take(event)
			case err := <-failures:
				if ctx.Err() == nil {
					o.failed(err)
				}
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if o.fail != nil {
			t.Errorf("events: %v", o.fail)
		}
	})
	return o
}

func (o *told) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

func (o *told) take(event any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch e := event.(type) {
	case *events.TaskStart:
		if e.ContainerID == o.id {
			o.add(telling{pid: e.Pid})
		}
	case *events.TaskExecStarted:
		if e.ContainerID == o.id {
			o.add(telling{exec: e.ExecID, pid: e.Pid})
		}
	case *events.TaskExit:
		if e.ContainerID != o.id {
			return
		}
		exec := e.ID
		if exec == o.id {
			exec = ""
		}
		o.add(telling{exec: exec, exit: true, pid: e.Pid, status: e.ExitStatus})
	}
}

func (o *told) add(e telling) { // mu is held
	o.all = append(o.all, e)
	close(o.more)
	o.more = make(chan struct{})
}

func (o *told) so() []telling {
	all, _ := o.soFar()
	return all
}

// soFar returns what was told, and what is closed when there is more.
func (o *told) soFar() ([]telling, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.all), o.more
}

// awaitStart waits until a start was told.
func (o *told) awaitStart(t *testing.T, exec string) { o.await(t, exec, false) }

// awaitExit waits until an exit was told, and returns it.
func (o *told) awaitExit(t *testing.T, exec string) telling { return o.await(t, exec, true) }

// await gives up when nothing is told for a while: on a busy machine hundreds of
// events may come before.
func (o *told) await(t *testing.T, exec string, exit bool) telling {
	t.Helper()
	for {
		all, more := o.soFar()
		if i := slices.IndexFunc(all, func(e telling) bool { return e.exit == exit && e.exec == exec }); i >= 0 {
			return all[i]
		}
		select {
		case <-more:
		case <-time.After(harness.Patience):
			t.Fatalf("of %q of %s is not told (exit: %t), nor anything for %v: %d events, the last: %v",
				exec, o.id, exit, harness.Patience, len(all), all[max(0, len(all)-3):])
		}
	}
}

// check checks the order of all that was told of a container whose init has
// exited: each process starts once, then exits once, and nothing comes after the
// exit of the init. It returns the exits of execs.
func (o *told) check(t *testing.T) map[string]telling {
	t.Helper()
	started, exits := map[string]telling{}, map[string]telling{}
	var wrong []string
	over := false
	for _, e := range o.so() {
		if over {
			wrong = append(wrong, "after the init's exit: "+e.String())
		}
		if !e.exit {
			if _, twice := started[e.exec]; twice {
				wrong = append(wrong, "again: "+e.String())
			}
			started[e.exec] = e
			continue
		}
		switch s, ok := started[e.exec]; {
		case !ok:
			wrong = append(wrong, "without a start: "+e.String())
		case s.pid != e.pid:
			wrong = append(wrong, fmt.Sprintf("%v, but %v", e, s))
		}
		if _, twice := exits[e.exec]; twice {
			wrong = append(wrong, "again: "+e.String())
		}
		exits[e.exec] = e
		over = over || e.exec == ""
	}
	for exec, s := range started {
		if _, ok := exits[exec]; !ok {
			wrong = append(wrong, "never exited: "+s.String())
		}
	}
	if len(wrong) > 0 {
		t.Errorf("%d faults in what was told of %s:\n%s", len(wrong), o.id, strings.Join(wrong[:min(len(wrong), 20)], "\n"))
	}
	delete(exits, "")
	return exits
}
