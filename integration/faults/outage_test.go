// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/integration/harness"
	"github.com/quoin-io/quoin/shim/bootstrap"
)

// outage is how long the daemon is stopped: far longer than any time limit that a
// publisher of events might have.
const outage = 2 * time.Minute

// TestDaemonStopped: the daemon is stopped while containers and execs exit. Its
// subscribers then are told each exit once, in order, with the time it had.
func TestDaemonStopped(t *testing.T) {
	harness.OnBoth(t, "stopped", func(t *testing.T, d *harness.Daemon) {
		o := newOutage(t, d, true)
		begun := time.Now()
		stopProcess(t, d.PID())
		o.endAll(t)
		over := time.Now()
		o.growsLittle(t)
		<-time.After(outage - time.Since(begun)) // the outage itself
		continueProcess(t, d.PID())
		o.told(t)
		o.times(t, begun, over)
	})
}

// TestDaemonAway: the same with a daemon that is killed. The one that follows it
// knows each exit, and tells its subscribers none twice.
func TestDaemonAway(t *testing.T) {
	harness.OnBoth(t, "away", func(t *testing.T, d *harness.Daemon) {
		o := newOutage(t, d, false)
		begun := time.Now()
		d.Kill(t)
		o.endAll(t)
		over := time.Now()
		o.growsLittle(t)
		d.Restart(t)
		for _, r := range o.running {
			o.events = append(o.events, listen(t, d, r.ID()))
		}
		o.times(t, begun, over)
		for _, e := range o.events {
			e.noneTwice(t)
		}
	})
}

// outageCount is how many containers there are; every second has an exec.
const outageCount = 8

// outageBed is containers that exit while the daemon is not there.
type outageBed struct {
	d       *harness.Daemon
	running []*harness.Running
	events  []*told
	pids    map[string]int // of inits and execs, by container and exec
	before  map[int]uint64 // private memory of the shims
}

// newOutage makes them; with told, somebody is known to listen from their beginning.
func newOutage(t *testing.T, d *harness.Daemon, told bool) *outageBed {
	t.Helper()
	o := &outageBed{d: d, pids: map[string]int{}, before: map[int]uint64{}}
	for i := range outageCount {
		id := fmt.Sprint("o", i)
		if told {
			o.events = append(o.events, listen(t, d, id))
		}
		r := d.Run(t, id, exitsOnTerm(30+i))
		r.Stdout.Await(t, "ready")
		o.running, o.pids[id] = append(o.running, r), int(r.Task.Pid())
		if i%2 == 0 {
			o.exec(t, r)
		}
		if told {
			o.events[i].awaitStart(t, "")
		}
		shim := d.Shim(t, id).PID
		o.before[shim] = memoryOf(t, shim, "Private_Dirty")
	}
	return o
}

func (o *outageBed) exec(t *testing.T, r *harness.Running) {
	t.Helper()
	ctx := r.Context(t)
	exec, err := r.Task.Exec(ctx, "e", r.Process(t, "sleep", "1000"), cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Start(ctx); err != nil {
		t.Fatal(err)
	}
	o.pids[r.ID()+"/e"] = int(exec.Pid())
}

// endAll ends the execs and then the containers, past the daemon.
func (o *outageBed) endAll(t *testing.T) {
	t.Helper()
	end := func(name string, signal syscall.Signal) {
		pid := o.pids[name]
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatalf("signal %v to %s: %v", signal, name, err)
		}
		harness.Eventually(t, name+" is ended", func() string {
			if p, ok := harness.FindProcess(pid); ok {
				return p.String()
			}
			return ""
		})
	}
	for i, r := range o.running {
		if i%2 == 0 {
			end(r.ID()+"/e", syscall.SIGKILL)
		}
		end(r.ID(), syscall.SIGTERM)
	}
}

// growsLittle checks the memory of the shims that have events to keep.
func (o *outageBed) growsLittle(t *testing.T) {
	t.Helper()
	for shim, before := range o.before {
		if now := memoryOf(t, shim, "Private_Dirty"); now > before+1<<20 {
			t.Errorf("the shim %d has grown from %d to %d bytes", shim, before, now)
		}
	}
}

// told checks what those were told who have listened all the time.
func (o *outageBed) told(t *testing.T) {
	t.Helper()
	for i, e := range o.events {
		if exit := e.awaitExit(t, ""); exit.status != uint32(30+i) {
			t.Errorf("%s was told to have exited with %d", e.id, exit.status)
		}
		e.noneTwice(t)
		var order []string
		for _, x := range slices.DeleteFunc(e.so(), func(x telling) bool { return !x.exit }) {
			order = append(order, fmt.Sprintf("%s %d", x.exec, x.status))
		}
		want := []string{fmt.Sprint(" ", 30+i)}
		if i%2 == 0 {
			want = []string{"e 137", want[0]}
		}
		if !slices.Equal(order, want) {
			t.Errorf("%s was told %q, want %q", e.id, order, want)
		}
	}
}

// times checks the codes and times that the daemon answers with, and removes all.
func (o *outageBed) times(t *testing.T, begun, over time.Time) {
	t.Helper()
	ctx := o.d.Context(t, "")
	for i, r := range o.running {
		task := o.d.Task(t, r.ID())
		if i%2 == 0 {
			checkExec(t, ctx, task, begun, over)
		}
		exit, err := task.Delete(ctx)
		if err != nil {
			t.Fatalf("delete %s: %v", r.ID(), err)
		}
		if exit.ExitCode() != uint32(30+i) || exit.ExitTime().Before(begun) || exit.ExitTime().After(over) {
			t.Errorf("%s exited with %d at %v, want %d between %v and %v", r.ID(), exit.ExitCode(), exit.ExitTime(), 30+i, begun, over)
		}
	}
}

func checkExec(t *testing.T, ctx context.Context, task containerd.Task, begun, over time.Time) {
	t.Helper()
	exec, err := task.LoadProcess(ctx, "e", nil)
	if err != nil {
		t.Fatalf("the exec of %s: %v", task.ID(), err)
	}
	exit, err := exec.Delete(ctx)
	if err != nil {
		t.Fatalf("delete the exec of %s: %v", task.ID(), err)
	}
	if exit.ExitCode() != 137 || exit.ExitTime().Before(begun) || exit.ExitTime().After(over) {
		t.Errorf("the exec of %s exited with %d at %v, want 137 between %v and %v", task.ID(), exit.ExitCode(), exit.ExitTime(), begun, over)
	}
}

// noneTwice checks that no exit was told twice.
func (o *told) noneTwice(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for _, e := range o.so() {
		if e.exit && seen[e.exec] {
			t.Errorf("%s: %v was told twice", o.id, e)
		}
		seen[e.exec] = seen[e.exec] || e.exit
	}
}

// TestFloodOfEvents: execs come and go by the shim's socket while the daemon is
// stopped. The shim's memory stays bounded, and all is told afterwards.
func TestFloodOfEvents(t *testing.T) {
	harness.OnBoth(t, "flood", func(t *testing.T, d *harness.Daemon) {
		const execs, side = 120, 6
		events := listen(t, d, "flood")
		r := d.Run(t, "flood", exitsOnTerm(33))
		r.Stdout.Await(t, "ready")
		shim := d.Shim(t, r.ID()).PID
		spec, err := typeurl.MarshalAnyToProto(r.Process(t, "true"))
		if err != nil {
			t.Fatal(err)
		}
		tasks := tasksOf(t, d, r.ID())
		flood := func(round string) {
			var wg sync.WaitGroup
			for g := range side {
				wg.Go(func() {
					for i := range execs / side {
						if err := tasks.runExec(t.Context(), r.ID(), fmt.Sprintf("%s-%d-%d", round, g, i), spec); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		}
		flood("before") // what execs alone cost
		before := memoryOf(t, shim, "Private_Dirty")
		stopProcess(t, d.PID())
		flood("during")
		if after := memoryOf(t, shim, "Private_Dirty"); after > before+2<<20 {
			t.Errorf("the shim has grown from %d to %d bytes with %d events to keep", before, after, 3*execs)
		}
		if err := syscall.Kill(int(r.Task.Pid()), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		continueProcess(t, d.PID())
		if exit := events.awaitExit(t, ""); exit.status != 33 {
			t.Errorf("the init exited with %d", exit.status)
		}
		if exits := events.check(t); len(exits) != 2*execs {
			t.Errorf("%d exits of %d execs were told", len(exits), 2*execs)
		}
		r.AwaitExit(t)
		r.Delete(t)
	})
}

// shimTasks is the Task API of a container's shim, past the daemon.
type shimTasks struct {
	taskv3.TTRPCTaskService
	namespace string
}

func tasksOf(t *testing.T, d *harness.Daemon, id string) shimTasks {
	t.Helper()
	bundle := bundleOf(d, id)
	address, err := bootstrap.BundleAddress(bundle)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bootstrap.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	t.Cleanup(func() { client.Close() })
	return shimTasks{taskv3.NewTTRPCTaskClient(client), d.Namespace}
}

// runExec runs an exec to its end and deletes it.
func (s shimTasks) runExec(ctx context.Context, id, exec string, spec *anypb.Any) error {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, s.namespace), harness.Patience)
	defer cancel()
	_, err := s.Exec(ctx, &taskv3.ExecProcessRequest{ID: id, ExecID: exec, Spec: spec})
	if err == nil {
		_, err = s.Start(ctx, &taskv3.StartRequest{ID: id, ExecID: exec})
	}
	if err == nil {
		_, err = s.Wait(ctx, &taskv3.WaitRequest{ID: id, ExecID: exec})
	}
	if err == nil {
		_, err = s.Delete(ctx, &taskv3.DeleteRequest{ID: id, ExecID: exec})
	}
	if err != nil {
		return fmt.Errorf("exec %s: %w", exec, err)
	}
	return nil
}
