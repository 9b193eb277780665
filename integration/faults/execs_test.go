// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

// What a Delete may take at most, with time for two busy cores: when somebody still
// holds the output of the process (the shim's deadline Linger), and when nobody
// reads what it has written (Drain).
const (
	heldWithin   = 8 * time.Second
	unreadWithin = 20 * time.Second
)

// TestExecStorm: 500 execs at once, and the init is killed in the middle. Each exec
// that was said to have started is said to have ended, once, before the init, with
// the status that its Wait returns; the others fail, and nothing hangs.
func TestExecStorm(t *testing.T) {
	harness.OnBoth(t, "execs", func(t *testing.T, d *harness.Daemon) {
		const count = 500
		const id = "storm"
		told := listen(t, d, id)
		r := d.Run(t, id, harness.Container{Args: []string{"sleep", "1000"}})
		storm := runStorm(t, r, count, func() { r.Signal(t, syscall.SIGKILL) })
		if status := r.AwaitExit(t); status.ExitCode() != 137 {
			t.Errorf("the init exited with %d", status.ExitCode())
		}
		watch := harness.StartWatch(t)
		r.Delete(t)
		if took := watch.Took(); took > heldWithin {
			t.Errorf("Delete took %v", took)
		}
		if exit := told.awaitExit(t, ""); exit.status != 137 {
			t.Errorf("the init's exit was told with %d", exit.status)
		}
		exits := told.check(t)
		for i := range storm {
			storm[i].compare(t, exits)
		}
		t.Logf("%d of %d execs ran", len(exits), count)
		if len(exits) < count/10 || len(exits) == count {
			t.Errorf("%d of %d execs ran: the init was not killed in the middle", len(exits), count)
		}
	})
}

// stormed is what became of one exec: how its start ended, and its Wait.
type stormed struct {
	id     string
	want   uint32 // what it exits with unless it is killed with the init
	start  error
	status containerd.ExitStatus // of a started one
	waited bool
}

// compare checks the result of an exec with what was told of it.
func (s *stormed) compare(t *testing.T, exits map[string]telling) {
	t.Helper()
	exit, told := exits[s.id]
	if s.start != nil {
		return // whatever was told is in order: told.check has looked
	}
	switch {
	case !told:
		t.Errorf("%s has started, and no exit was told", s.id)
	case !s.waited:
		t.Errorf("%s: its Wait does not end", s.id)
	case s.status.Error() == nil && s.status.ExitCode() != exit.status:
		t.Errorf("%s: Wait says %d, the event %d", s.id, s.status.ExitCode(), exit.status)
	case exit.status != s.want && exit.status != 137:
		t.Errorf("%s: %d was told, want %d, or 137 of one that was killed", s.id, exit.status, s.want)
	}
}

// runStorm starts that many execs at once, but for a fifth that comes after middle,
// which it calls once a quarter of them has ended: however late middle has its effect,
// some execs meet it. It returns what became of all.
func runStorm(t *testing.T, r *harness.Running, count int, middle func()) []stormed {
	t.Helper()
	ctx, cancel := context.WithTimeout(r.Context(t), 4*time.Minute)
	defer cancel()
	all := make([]stormed, count)
	ended, past := make(chan struct{}, count), make(chan struct{})
	var wg sync.WaitGroup
	for i := range all {
		s := &all[i]
		s.id, s.want = fmt.Sprint("e", i), uint32(i%100+1)
		p := r.Process(t, "sh", "-c", fmt.Sprint("exit ", s.want))
		if i%5 == 0 {
			s.want = 137
			p.Args = []string{"sleep", "1000"}
		}
		wg.Go(func() {
			if i >= count-count/5 {
				<-past
			}
			s.run(ctx, r, p)
			ended <- struct{}{}
		})
	}
	for range count / 4 {
		<-ended
	}
	middle()
	close(past)
	wg.Wait()
	return all
}

// run runs one exec to its end, if it starts.
func (s *stormed) run(ctx context.Context, r *harness.Running, p *specs.Process) {
	exec, err := r.Task.Exec(ctx, s.id, p, cio.NullIO)
	if err != nil {
		s.start = err
		return
	}
	// The Wait comes first, as with every client that wants to miss nothing.
	exit, err := exec.Wait(ctx)
	if err == nil {
		err = exec.Start(ctx)
	}
	if err != nil {
		s.start = err
		return
	}
	select {
	case s.status = <-exit:
		s.waited = true
	case <-ctx.Done():
	}
}

// TestExecOutlivesItsClient: the client of an exec is killed. The exec goes on, its
// exit is told, and neither its unread output nor its open stdin holds up anything.
func TestExecOutlivesItsClient(t *testing.T) {
	harness.OnBoth(t, "client", func(t *testing.T, d *harness.Daemon) {
		const id = "outlived"
		told := listen(t, d, id)
		r := d.Run(t, id, harness.Container{Args: []string{"sleep", "1000"}})
		ctx := r.Context(t)

		// One waits for a sign; the other writes, until it is killed, what nobody reads.
		for exec, script := range map[string]string{
			"patient": "touch /patient; while ! [ -e /go ]; do sleep 0.1; done; exit 7",
			"writer":  "touch /writer; while :; do echo 0123456789012345678901234567890123456789; done",
		} {
			client := d.CLICommand(t, "tasks", "exec", "--exec-id", exec, id, "sh", "-c", script)
			if err := client.Start(); err != nil {
				t.Fatal(err)
			}
			told.awaitStart(t, exec)
			awaitFile(t, r, "/"+exec)
			if err := client.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = client.Wait() // killed
		}
		r.RunExec(t, "sign", "touch", "/go")
		if exit := told.awaitExit(t, "patient"); exit.status != 7 {
			t.Errorf("%v, want 7", exit)
		}
		writer, err := r.Task.LoadProcess(ctx, "writer", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Kill(ctx, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if exit := told.awaitExit(t, "writer"); exit.status != 137 {
			t.Errorf("%v, want 137", exit)
		}
		deleteInTime(t, unreadWithin, "the exec whose output nobody reads", func() error { _, err := writer.Delete(ctx); return err })

		r.Signal(t, syscall.SIGKILL)
		r.AwaitExit(t)
		deleteInTime(t, heldWithin, "the task", func() error { _, err := r.Task.Delete(ctx); return err })
		told.awaitExit(t, "")
		if exits := told.check(t); len(exits) != 3 {
			t.Errorf("exits of execs: %v", exits)
		}
	})
}

// TestExecOutputHeld: an exec leaves a daemon that holds its output. Its exit is
// told at once, in order, and its Delete ends within its deadline.
func TestExecOutputHeld(t *testing.T) {
	harness.OnBoth(t, "held", func(t *testing.T, d *harness.Daemon) {
		const id = "held"
		told := listen(t, d, id)
		r := d.Run(t, id, harness.Container{Args: []string{"sleep", "1000"}})
		ctx := r.Context(t)

		var out harness.Output
		// The grandchild has a session of its own, as a daemon does, and keeps the pipe.
		exec, err := r.Task.Exec(ctx, "leaver", r.Process(t, "sh", "-c", "(setsid sleep 1000 &) ; echo left; exit 5"),
			cio.NewCreator(cio.WithStreams(nil, &out, nil)))
		if err != nil {
			t.Fatal(err)
		}
		exit, err := exec.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		watch := harness.StartWatch(t)
		if err := exec.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if status := harness.AwaitExit(t, "the exec", exit); status.ExitCode() != 5 {
			t.Errorf("exit code %d", status.ExitCode())
		}
		if e := told.awaitExit(t, "leaver"); e.status != 5 {
			t.Errorf("%v, want 5", e)
		}
		if pids, err := r.Task.Pids(ctx); err != nil || len(pids) != 2 {
			t.Errorf("%v, %v: nobody holds the output", pids, err)
		}
		if took := watch.Took(); took > heldWithin {
			t.Errorf("the exit was told after %v", took)
		}
		deleteInTime(t, heldWithin, "the exec", func() error { _, err := exec.Delete(ctx); return err })
		out.Await(t, "left\n")

		// And one that is not deleted when the init goes.
		second, err := r.Task.Exec(ctx, "kept", r.Process(t, "sh", "-c", "(setsid sleep 1000 &) ; exit 6"), cio.NewCreator(cio.WithStreams(nil, &out, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Start(ctx); err != nil {
			t.Fatal(err)
		}
		told.awaitExit(t, "kept")
		r.Signal(t, syscall.SIGKILL)
		r.AwaitExit(t)
		deleteInTime(t, heldWithin, "the task", func() error { _, err := r.Task.Delete(ctx); return err })
		told.awaitExit(t, "")
		if exits := told.check(t); exits["kept"].status != 6 {
			t.Errorf("exits of execs: %v", exits)
		}
	})
}

func deleteInTime(t *testing.T, limit time.Duration, what string, del func() error) {
	t.Helper()
	watch := harness.StartWatch(t)
	if err := del(); err != nil {
		t.Errorf("delete %s: %v", what, err)
	}
	if took := watch.Took(); took > limit {
		t.Errorf("the Delete of %s took %v", what, took)
	}
}

// awaitFile waits until a file is in the container's root.
func awaitFile(t *testing.T, r *harness.Running, path string) {
	t.Helper()
	harness.Eventually(t, path+" is in the container", func() string {
		return fileMissing(fmt.Sprintf("/proc/%d/root%s", r.Task.Pid(), path))
	})
}
