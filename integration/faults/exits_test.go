// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

const (
	kills = 30
	// clients is how many containers are under way at once.
	clients = 6
	// A file's time is that of the last tick of the kernel's clock.
	clockTick = 20 * time.Millisecond
	// The shim sees an exit when it gets to run. That is soon for all but one in lateOne,
	// even on a machine that stands still for seconds again and again.
	soon    = 3 * time.Second
	lateOne = 20
)

// TestExits: containers with random exit codes, while the daemon is killed again and
// again. Each code and each time is the true one, no exit is told twice in the life
// of a daemon, and nothing is left.
func TestExits(t *testing.T) {
	harness.ForBoth(t, "exits", func(t *testing.T, spec harness.Spec) {
		const count = 1000
		spec.Timeouts = harness.PatientTimeouts()
		d := harness.Start(t, spec)
		d.Busybox(t)
		s := newExitStorm(t, d, count)
		jobs := make(chan int)
		var workers sync.WaitGroup
		for range clients {
			workers.Go(func() {
				for i := range jobs {
					if err := s.run(i); err != nil {
						t.Errorf("container %d: %v", i, err)
					}
					s.finished <- struct{}{}
				}
			})
		}
		go func() {
			for i := range count {
				jobs <- i
			}
			close(jobs)
		}()
		s.killDaemons(count)
		workers.Wait()
		s.nothingLeft()
		if late := s.late.Load(); late > count/lateOne {
			t.Errorf("%d of %d exits are said to have been more than %v after the container's end", late, count, soon)
		}
		t.Logf("%s: %d containers, %d kills, %d calls failed and were looked after, %d exits were seen after more than %v",
			d.Name, count, kills, s.failed.Load(), s.late.Load(), soon)
	})
}

// exitStorm is what the containers have in common.
type exitStorm struct {
	t        *testing.T
	d        *harness.Daemon
	ctx      context.Context
	client   *containerd.Client // of our own: the daemon's is made anew with each life
	image    containerd.Image
	dir      string // where each container leaves a file as the last thing it does
	codes    []int
	finished chan struct{}
	failed   atomic.Int64
	late     atomic.Int64 // exits that were not seen soon
}

func newExitStorm(t *testing.T, d *harness.Daemon, count int) *exitStorm {
	t.Helper()
	client, err := containerd.New(d.Address, containerd.WithDefaultNamespace(d.Namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	s := &exitStorm{t: t, d: d, ctx: d.Context(t, ""), client: client, dir: t.TempDir(), finished: make(chan struct{}, count)}
	if s.image, err = client.GetImage(s.ctx, harness.BusyboxRef); err != nil {
		t.Fatal(err)
	}
	for range count {
		s.codes = append(s.codes, rand.IntN(256))
	}
	return s
}

// killDaemons kills the daemon at random moments, until all containers have finished.
func (s *exitStorm) killDaemons(count int) {
	end := s.listen()
	for i := range kills {
		for range count*(i+1)/(kills+1) - count*i/(kills+1) {
			<-s.finished
		}
		<-time.After(rand.N(150 * time.Millisecond)) // the moment is chance
		s.d.Kill(s.t)
		end()
		<-time.After(rand.N(200 * time.Millisecond)) // and so is the time without a daemon
		s.d.Restart(s.t)
		end = s.listen()
	}
	for range count - count*kills/(kills+1) {
		<-s.finished
	}
	end()
}

// listen listens, in one life of the daemon, to the exits of all containers. What it
// returns ends that and checks that none was told twice.
func (s *exitStorm) listen() (end func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	envelopes, failures := s.d.Client().EventService().Subscribe(ctx, `topic=="/tasks/exit"`)
	seen := map[string]int{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case e := <-envelopes:
				if exit := exitOf(s.t, e); exit != nil {
					seen[exit.ContainerID]++
				}
			case <-failures: // it ends with the daemon
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		for id, n := range seen {
			if n > 1 {
				s.t.Errorf("the exit of %s was told %d times in one life of the daemon", id, n)
			}
		}
	}
}

func exitOf(t *testing.T, e *events.Envelope) *eventtypes.TaskExit {
	event, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		t.Error(err)
		return nil
	}
	exit, ok := event.(*eventtypes.TaskExit)
	if !ok {
		t.Errorf("the event of %s is a %T", e.Topic, event)
		return nil
	}
	return exit
}

// run brings one container from nothing to nothing. Each call may fail, because the
// daemon is gone: then it looks what is there, and goes on from that.
func (s *exitStorm) run(i int) error {
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
	defer cancel()
	c := &exiting{exitStorm: s, id: fmt.Sprint("exit-", i), code: s.codes[i]}
	for {
		done, err := c.step(ctx)
		switch {
		case done:
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("it does not come to an end: %w", errors.Join(err, ctx.Err()))
		case err != nil:
			s.failed.Add(1)
			// Waits for the daemon, if it is away.
			if _, serr := s.client.IsServing(ctx); serr != nil {
				<-time.After(10 * time.Millisecond)
			}
		}
	}
}

// exiting is one container.
type exiting struct {
	*exitStorm
	id   string
	code int
	// started says that a start was asked for: from then on its exit may not be lost.
	started bool
	// checked says that the exit was seen and is right, or wrong.
	checked bool
	wrong   error
}

// step does the next thing. It says when nothing is left to do.
func (c *exiting) step(ctx context.Context) (done bool, err error) {
	container, err := c.client.LoadContainer(ctx, c.id)
	switch {
	case errdefs.IsNotFound(err) && c.checked:
		return true, c.wrong
	case errdefs.IsNotFound(err):
		return false, c.make(ctx)
	case err != nil:
		return false, err
	}
	task, err := container.Task(ctx, nil)
	switch {
	case errdefs.IsNotFound(err) && c.checked:
		return false, container.Delete(ctx, containerd.WithSnapshotCleanup)
	case errdefs.IsNotFound(err) && c.started:
		return true, errors.New("it was started, and its task is gone: the exit is lost")
	case errdefs.IsNotFound(err):
		_, err := container.NewTask(ctx, cio.NullIO)
		return false, err
	case err != nil:
		return false, err
	}
	status, err := task.Status(ctx)
	seen := time.Now()
	if err != nil {
		return false, err
	}
	switch status.Status {
	case containerd.Created:
		c.started = true
		return false, task.Start(ctx)
	case containerd.Stopped:
		c.check(status, seen)
		_, err := task.Delete(ctx)
		return false, err
	case containerd.Running:
		exit, err := task.Wait(ctx)
		if err == nil {
			<-exit
		}
		return false, err
	}
	// The daemon says so of a shim that has failed to answer.
	return false, fmt.Errorf("it is %s", status.Status)
}

func (c *exiting) make(ctx context.Context) error {
	// The pause spreads the exits over times with and without a daemon.
	script := fmt.Sprintf("sleep 0.%02d; : >/out/%s; exit %d", rand.IntN(30), c.id, c.code)
	_, err := c.client.NewContainer(ctx, c.id,
		containerd.WithImage(c.image), containerd.WithNewSnapshot(c.id, c.image), containerd.WithRuntime(c.d.Runtime, nil),
		containerd.WithNewSpec(oci.WithImageConfig(c.image), oci.WithProcessArgs("sh", "-c", script), oci.WithMounts([]specs.Mount{
			{Type: "bind", Source: c.dir, Destination: "/out", Options: []string{"rbind", "rw"}},
		})))
	if errdefs.IsAlreadyExists(err) {
		// A snapshot of this name, from a try that the daemon did not survive.
		return errors.Join(err, c.client.SnapshotService("").Remove(ctx, c.id))
	}
	return err
}

// check compares an exit, which was seen by then, with what the container has done.
func (c *exiting) check(status containerd.Status, seen time.Time) {
	if c.checked {
		return
	}
	c.checked = true
	info, err := os.Stat(filepath.Join(c.dir, c.id))
	if err != nil {
		c.wrong = fmt.Errorf("it has stopped and was not at its end: %w", err)
		return
	}
	end := info.ModTime()
	switch at := status.ExitTime; {
	case int(status.ExitStatus) != c.code:
		c.wrong = fmt.Errorf("status %d, want %d", status.ExitStatus, c.code)
	case at.Before(end.Add(-clockTick)), at.After(seen):
		c.wrong = fmt.Errorf("it ended at %v, is said to have done so at %v, and that was seen at %v", end, at, seen)
	case at.After(end.Add(soon)):
		c.late.Add(1)
	}
}

// nothingLeft checks for what the daemon's own check does not look for.
func (s *exitStorm) nothingLeft() {
	s.t.Helper()
	harness.Eventually(s.t, "no shim is left", func() string {
		return harness.Describe(allShims(s.d))
	})
	// Another daemon's containers may just be ending.
	harness.Eventually(s.t, "there are no zombies", func() string { return harness.Describe(harness.Zombies()) })
	// The daemon's descriptors are those that one has which never ran a container.
	used := openFiles(s.t, s.d.PID())
	s.d.Kill(s.t)
	s.d.Restart(s.t)
	if fresh := openFiles(s.t, s.d.PID()); used > fresh+10 {
		s.t.Errorf("the daemon has %d descriptors open, a new one %d", used, fresh)
	}
}

// allShims are the shims that serve a daemon's containers.
func allShims(d *harness.Daemon) []harness.Process {
	return slices.DeleteFunc(harness.Processes(), func(p harness.Process) bool {
		return !strings.HasPrefix(p.Name, "containerd-shim") || !slices.Contains(p.Args, d.Namespace)
	})
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
