// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/quoin-io/quoin/integration/harness"
	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/control"
)

// soakVariable sets how long TestSoak goes on, as time.ParseDuration reads it.
const soakVariable = "QUOIN_SOAK"

func soakDuration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(soakVariable)
	if text == "" {
		return 2 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("%s=%q is no duration, such as 20m", soakVariable, text)
	}
	return d
}

// minCycles are those after which a trend can be told from the warm-up.
const minCycles = 45

// TestSoak: containers and execs come, go and are killed, and neither the daemon nor
// a shim that stays through all of it grows. Whatever is measured is measured
// between two cycles, when nothing is under way.
func TestSoak(t *testing.T) {
	if harness.Reference() {
		return // runc's shim does not tell about itself
	}
	t.Parallel()
	for i, spec := range harness.Both() {
		t.Run(string(spec.Kind), func(t *testing.T) {
			t.Parallel()
			address := fmt.Sprintf("127.0.0.1:%d", 1400+i)
			spec.Name = "soak-" + string(spec.Kind)
			spec.Plugins = map[string]map[string]any{"io.containerd.server.v1.metrics": {"address": address}}
			d := harness.Start(t, spec)
			s := &soak{d: d, endpoint: metrics{t, address}, anchor: d.Run(t, "anchor", inGroup("sleep", "100000"))}
			s.run(t, soakDuration(t))
		})
	}
}

// inGroup is a container of the shim that stays.
func inGroup(args ...string) harness.Container {
	return harness.Container{Args: args, Spec: inPod("soak")}
}

// soak is the churn of one daemon.
type soak struct {
	d        *harness.Daemon
	endpoint metrics
	anchor   *harness.Running
	trends   []*trend
}

func (s *soak) run(t *testing.T, duration time.Duration) {
	begun := time.Now()
	cycle := 0
	// On a machine that is very busy, longer: heaps settle by cycles, not by time.
	for ; time.Since(begun) < duration || cycle < minCycles; cycle++ {
		s.cycle(t, cycle)
		if t.Failed() {
			return
		}
		s.measure(t, time.Since(begun))
	}
	var table strings.Builder
	for _, tr := range s.trends {
		fmt.Fprintf(&table, "  %v\n", tr)
		if !tr.flat() {
			t.Errorf("not flat: %v\nall samples: %v", tr, tr.samples)
		}
	}
	t.Logf("%s: %d cycles in %v\n%s", s.d.Name, cycle, time.Since(begun).Round(time.Second), &table)
	s.anchor.Signal(t, syscall.SIGKILL)
	s.anchor.AwaitExit(t)
	s.anchor.Delete(t)
}

// cycle does some of everything at once, and ends when all of it is done.
func (s *soak) cycle(t *testing.T, n int) {
	t.Helper()
	code := n%200 + 1
	steps := []func(*soakStep) error{
		func(st *soakStep) error {
			return st.container(inGroup("sh", "-c", fmt.Sprint("echo out; exit ", code)), 0, uint32(code))
		},
		func(st *soakStep) error { return st.container(inGroup("sleep", "1000"), syscall.SIGKILL, 137) },
		func(st *soakStep) error {
			return st.container(harness.Container{Args: []string{"sh", "-c", fmt.Sprint("exit ", code)}}, 0, uint32(code))
		},
		func(st *soakStep) error {
			return st.exec(0, uint32(code), "sh", "-c", fmt.Sprintf("seq 1000; exit %d", code))
		},
		func(st *soakStep) error { return st.exec(syscall.SIGKILL, 137, "sleep", "1000") },
		// An orphan that the container's init gets, and one that holds the output.
		func(st *soakStep) error {
			return st.exec(0, 3, "sh", "-c", "(sleep 0.01 &); (setsid sleep 0.2 &); exit 3")
		},
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(s.d.Context(t, ""), 2*time.Minute)
	defer cancel()
	for i, do := range steps {
		st := &soakStep{soak: s, ctx: ctx, id: fmt.Sprintf("c%d-%d", n, i)}
		wg.Go(func() {
			if err := do(st); err != nil {
				t.Errorf("cycle %d, step %d: %v", n, i, err)
			}
		})
	}
	wg.Wait()
}

// soakStep is one thing done in a cycle.
type soakStep struct {
	*soak
	ctx context.Context
	id  string
}

// container runs a container to its end and removes it.
func (s *soakStep) container(c harness.Container, kill syscall.Signal, want uint32) error {
	image, err := s.d.Client().GetImage(s.ctx, harness.BusyboxRef)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	specs := append([]oci.SpecOpts{oci.WithImageConfig(image), oci.WithProcessArgs(c.Args...)}, c.Spec...)
	made, err := s.d.Client().NewContainer(s.ctx, s.id,
		containerd.WithNewSnapshot(s.id, image), containerd.WithRuntime(s.d.Runtime, nil), containerd.WithNewSpec(specs...))
	if err != nil {
		return fmt.Errorf("new container: %w", err)
	}
	var out harness.Output
	task, err := made.NewTask(s.ctx, cio.NewCreator(cio.WithStreams(nil, &out, &out)))
	if err != nil {
		return fmt.Errorf("new task: %w", err)
	}
	if err := s.through(task, kill, want); err != nil {
		return err
	}
	if err := made.Delete(s.ctx, containerd.WithSnapshotCleanup); err != nil {
		return fmt.Errorf("delete the container: %w", err)
	}
	return nil
}

// exec runs an exec in the container that stays.
func (s *soakStep) exec(kill syscall.Signal, want uint32, args ...string) error {
	spec, err := s.anchor.Spec(s.ctx)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	p := *spec.Process
	p.Args = args
	var out harness.Output
	exec, err := s.anchor.Task.Exec(s.ctx, s.id, &p, cio.NewCreator(cio.WithStreams(nil, &out, &out)))
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	return s.through(exec, kill, want)
}

// through starts a process, ends it, or waits for its end, and deletes it.
func (s *soakStep) through(p containerd.Process, kill syscall.Signal, want uint32) error {
	exit, err := p.Wait(s.ctx)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := p.Start(s.ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if kill != 0 {
		if err := p.Kill(s.ctx, kill); err != nil {
			return fmt.Errorf("kill: %w", err)
		}
	}
	status := <-exit // or the context's end
	if err := status.Error(); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if _, err := p.Delete(s.ctx); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if status.ExitCode() != want {
		return fmt.Errorf("exit code %d, want %d", status.ExitCode(), want)
	}
	return nil
}

// measure takes one sample of everything.
func (s *soak) measure(t *testing.T, at time.Duration) {
	t.Helper()
	if s.trends == nil {
		s.trends = []*trend{
			{what: "daemon's goroutines", may: 4}, {what: "daemon's descriptors", may: 3},
			{what: "daemon's live heap", unit: "KB", may: 1500}, {what: "daemon's memory", unit: "KB", may: 6000},
			{what: "shim's goroutines", may: 2}, {what: "shim's descriptors", may: 2},
			{what: "shim's threads", may: 2}, {what: "shim's memory", unit: "KB", may: 800},
			{what: "shim's children", may: 1},
		}
	}
	daemon := s.endpoint.scrape()
	info := s.info(t)
	for i, v := range []float64{
		daemon["go_goroutines"], daemon["process_open_fds"],
		// The next collection begins when the heap has twice what the last one left.
		daemon["go_memstats_next_gc_bytes"] / 2048, float64(memoryOf(t, s.d.PID(), "Anonymous")) / 1024,
		float64(info.Goroutines), float64(info.OpenFiles),
		float64(info.Threads), float64(info.Memory.Private) / 1024,
		float64(len(harness.Children(info.PID))),
	} {
		s.trends[i].add(at, v)
	}
}

// info asks the shim that stays.
func (s *soak) info(t *testing.T) control.Info {
	t.Helper()
	address, err := bootstrap.BundleAddress(bundleOf(s.d, s.anchor.ID()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	c, err := control.Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	info, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
