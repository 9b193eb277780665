// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"

	"github.com/quoin-io/quoin/integration/harness"
)

// stoppedCount is how many shims are stopped at once.
const stoppedCount = 6

// bounds say how long something may take while shims are stopped. containerd waits
// for them one after the other: 2 seconds each in a list, 5 in two lines when it
// starts. quoind waits for all at once.
type bounds struct{ list, start time.Duration }

func boundsOf(d *harness.Daemon) bounds {
	const slow = 3 * time.Second // two busy cores
	if d.Kind == harness.KindQuoind && !harness.Reference() {
		return bounds{list: 4*time.Second + slow, start: 6*time.Second + slow}
	}
	// At the start it also cleans up after each, for which it has 5 seconds more.
	return bounds{list: 2*stoppedCount*time.Second + slow, start: 10*stoppedCount/2*time.Second + slow}
}

// stoppedBed is a daemon with shims that are stopped and one that is not.
type stoppedBed struct {
	d       *harness.Daemon
	stopped []*harness.Running
	shims   []int // of the stopped ones
	fine    *harness.Running
}

func newStoppedBed(t *testing.T, d *harness.Daemon) *stoppedBed {
	t.Helper()
	b := &stoppedBed{d: d}
	for i := range stoppedCount {
		r := d.Run(t, fmt.Sprint("stopped-", i), exitsOnTerm(50+i))
		r.Stdout.Await(t, "ready")
		b.stopped, b.shims = append(b.stopped, r), append(b.shims, d.Shim(t, r.ID()).PID)
	}
	b.fine = d.Run(t, "fine", exitsOnTerm(40))
	b.fine.Stdout.Await(t, "ready")
	for _, pid := range b.shims {
		stopProcess(t, pid)
	}
	return b
}

// exitsOnTerm is a container that exits with a code when it is told to.
func exitsOnTerm(code int) harness.Container {
	return harness.Container{Args: harness.ExitOnTerm(code)}
}

// list lists the daemon's tasks, within its bound.
func (b *stoppedBed) list(t *testing.T) []string {
	t.Helper()
	watch := harness.StartWatch(t)
	response, err := b.d.Client().TaskService().List(b.d.Context(t, ""), &tasksapi.ListTasksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	took, limit := watch.Took(), boundsOf(b.d).list
	t.Logf("%s: the list took %v", b.d.Name, took.Round(time.Millisecond))
	if took > limit {
		t.Errorf("the list took %v, more than %v", took, limit)
	}
	var ids []string
	for _, p := range response.Tasks {
		ids = append(ids, p.ID)
	}
	return ids
}

// others checks that what does not concern the stopped shims is not held up.
func (b *stoppedBed) others(t *testing.T) {
	t.Helper()
	const limit = 5 * time.Second
	watch := harness.StartWatch(t)
	b.fine.RunExec(t, "beside", "true")
	r := b.d.Run(t, "new", exitsOnTerm(41))
	r.Stdout.Await(t, "ready")
	r.Signal(t, syscall.SIGTERM)
	if code := r.AwaitExit(t).ExitCode(); code != 41 {
		t.Errorf("exit code %d, want 41", code)
	}
	r.Delete(t)
	if took := watch.Took(); took > limit {
		t.Errorf("an exec and a new container took %v", took)
	}
}

// end ends a container, whose task is loaded again if the daemon is another.
func (b *stoppedBed) end(t *testing.T, r *harness.Running, code uint32) {
	t.Helper()
	ctx := b.d.Context(t, "")
	task := b.d.Task(t, r.ID())
	exit, err := task.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Kill(ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := harness.AwaitExit(t, r.ID(), exit).ExitCode(); got != code {
		t.Errorf("%s exited with %d, want %d", r.ID(), got, code)
	}
	if _, err := task.Delete(ctx); err != nil {
		t.Errorf("delete %s: %v", r.ID(), err)
	}
}

// TestStoppedShims: while shims are stopped, lists and other containers are not held
// up, and quoinctl says which; when they go on, nothing is lost.
func TestStoppedShims(t *testing.T) {
	harness.OnBoth(t, "stop", func(t *testing.T, d *harness.Daemon) {
		b := newStoppedBed(t, d)
		// What does not answer within two seconds is left out.
		harness.Eventually(t, "the other one is in the list", func() string {
			if ids := b.list(t); !slices.Contains(ids, "fine") {
				return fmt.Sprintf("the list is %v", ids)
			}
			return ""
		})
		b.others(t)
		b.told(t, "stuck")
		// A request that concerns a stopped shim ends with its caller's patience.
		ctx, cancel := context.WithTimeout(d.Context(t, ""), 3*time.Second)
		defer cancel()
		watch := harness.StartWatch(t)
		if _, err := b.stopped[0].Task.Status(ctx); err == nil {
			t.Error("a stopped shim has told a state")
		}
		if took := watch.Took(); took > 5*time.Second {
			t.Errorf("the state of one took %v", took)
		}

		for _, pid := range b.shims {
			continueProcess(t, pid)
		}
		b.told(t, "ok")
		for i, r := range b.stopped {
			b.end(t, r, uint32(50+i))
		}
		b.end(t, b.fine, 40)
	})
}

// told waits until quoinctl says of the shims that are, or were, stopped what it should.
func (b *stoppedBed) told(t *testing.T, status string) {
	t.Helper()
	if harness.Reference() {
		return // it has no such command
	}
	harness.Eventually(t, "quoinctl says that they are "+status, func() string { return b.untold(t, status) })
}

// untold is what is wrong with what quoinctl says.
func (b *stoppedBed) untold(t *testing.T, status string) string {
	t.Helper()
	result := harness.Run(t, harness.Quoinctl.Path(), "shims", "ls", "--state", b.d.State, "--json", "--answer-within", "1s")
	if result.Code != 0 {
		t.Fatalf("shims ls: %s", result.Stderr)
	}
	var rows []struct {
		ID, Status, Version string
		PID                 int
		Memory              struct{ Private uint64 }
		Uptime              int64 `json:"uptimeSeconds"`
		Containers          []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(result.Stdout), &rows); err != nil {
		t.Fatal(err)
	}
	found := 0
	var wrong []string
	for _, row := range rows {
		want := "ok"
		if i := slices.IndexFunc(b.stopped, func(r *harness.Running) bool { return r.ID() == row.ID }); i >= 0 {
			found++
			want = status
			if row.PID != b.shims[i] {
				wrong = append(wrong, fmt.Sprintf("%s has pid %d, want %d", row.ID, row.PID, b.shims[i]))
			}
		}
		if row.Status != want || row.Memory.Private == 0 || len(row.Containers) != 1 || (row.Version == "") != (want == "stuck") {
			wrong = append(wrong, fmt.Sprintf("%+v, want status %s", row, want))
		}
	}
	if found != stoppedCount {
		wrong = append(wrong, fmt.Sprintf("%d of %d shims are listed:\n%s", found, stoppedCount, result.Stdout))
	}
	return strings.Join(wrong, "\n")
}

// TestDaemonStartsBesideStoppedShims: the daemon's start is bounded. quoind has the
// shims go on, and loses nothing. containerd gives them up, and the shim's delete
// ends them with their containers, and leaves nothing.
func TestDaemonStartsBesideStoppedShims(t *testing.T) {
	harness.OnBoth(t, "start", func(t *testing.T, d *harness.Daemon) {
		b := newStoppedBed(t, d)
		d.Kill(t)
		watch := harness.StartWatch(t)
		d.Restart(t)
		took, limit := watch.Took(), boundsOf(d).start
		t.Logf("%s started in %v", d.Name, took.Round(time.Millisecond))
		if took > limit {
			t.Errorf("the start took %v, more than %v", took, limit)
		}
		b.list(t)
		b.end(t, b.fine, 40)
		if d.Kind == harness.KindQuoind && !harness.Reference() {
			for i, r := range b.stopped {
				b.end(t, r, uint32(50+i))
			}
			return
		}
		ctx := d.Context(t, "")
		for _, r := range b.stopped {
			// The id is free, and the first container's processes have ended.
			harness.Eventually(t, "the container is ended", func() string {
				if p, ok := harness.FindProcess(int(r.Task.Pid())); ok && p.State != "Z" {
					return p.String()
				}
				return ""
			})
			container, err := d.Client().LoadContainer(ctx, r.ID())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := container.Task(ctx, nil); err == nil {
				t.Errorf("%s has a task still", r.ID())
			}
			if err := container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
				t.Error(err)
			}
		}
		harness.Eventually(t, "the shims that were given up end", func() string {
			var left []string
			for _, pid := range b.shims {
				if p, ok := harness.FindProcess(pid); ok {
					left = append(left, p.String())
				}
			}
			return strings.Join(left, "\n")
		})
	})
}
