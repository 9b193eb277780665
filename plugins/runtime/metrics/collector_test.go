// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/task"
)

// bed is a state directory with shims, and a collector over it.
type bed struct {
	*Collector
	t        *testing.T
	dir      string
	registry *prometheus.Registry
}

func newBed(t *testing.T, perShim bool) *bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "q") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	b := &bed{
		Collector: New(Options{State: dir, Patience: 3 * time.Second, PerShim: perShim}),
		t:         t, dir: dir, registry: prometheus.NewPedanticRegistry(),
	}
	b.registry.MustRegister(b.Collector)
	return b
}

// scrape returns what is served, by name and values of labels. It always asks.
func (b *bed) scrape() map[string]float64 {
	b.t.Helper()
	b.round.Lock()
	b.last = time.Time{}
	b.round.Unlock()
	families, err := b.registry.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

// expect compares some of what a scrape yields.
func (b *bed) expect(when string, want map[string]float64) {
	b.t.Helper()
	all := b.scrape()
	got := map[string]float64{}
	for name := range want {
		if v, ok := all[name]; ok {
			got[name] = v
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// shim is a fake one: it tells what the test wants.
type shim struct {
	control.Handler // but for Info nil: nobody upgrades it

	bed    *bed
	bundle string
	server *ttrpc.Server
	done   chan error

	mu    sync.Mutex
	info  control.Info  // guarded by mu
	stuck chan struct{} // guarded by mu; while not nil, it does not answer
}

func (b *bed) start(ns, id string, started time.Time, counters map[string]uint64) *shim {
	b.t.Helper()
	s := &shim{bed: b, done: make(chan error, 1), info: control.Info{
		Version: "1.0", Namespace: ns, ID: id, Started: started, Goroutines: 5,
		Containers: []control.Container{{ID: id, Execs: 2}},
		Memory:     control.Memory{RSS: 100, Private: 10},
		Totals:     control.Totals{Counters: counters},
	}}
	s.bundle = filepath.Join(b.dir, "io.containerd.runtime.v2.task", ns, id)
	if err := os.MkdirAll(s.bundle, 0o700); err != nil {
		b.t.Fatal(err)
	}
	socket := filepath.Join(b.dir, ns+"-"+id)
	if err := os.WriteFile(filepath.Join(s.bundle, "bootstrap.json"), fmt.Appendf(nil, `{"address":"unix://%s"}`, socket), 0o600); err != nil {
		b.t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.t.Fatal(err)
	}
	if s.server, err = ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(task.Intercept)); err != nil {
		b.t.Fatal(err)
	}
	control.Register(s.server, s)
	go func() { s.done <- s.server.Serve(context.Background(), l) }()
	b.t.Cleanup(s.kill)
	return s
}

// kill ends it; its bundle stays.
func (s *shim) kill() {
	if s.server == nil {
		return
	}
	s.resume()
	if err := s.server.Close(); err != nil {
		s.bed.t.Error(err)
	}
	<-s.done
	s.server = nil
}

// end ends it, and its daemon removes the bundle.
func (s *shim) end() {
	s.bed.t.Helper()
	s.kill()
	if err := os.RemoveAll(s.bundle); err != nil {
		s.bed.t.Fatal(err)
	}
}

func (s *shim) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = make(chan struct{})
}

func (s *shim) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck != nil {
		close(s.stuck)
		s.stuck = nil
	}
}

func (s *shim) counts(counters map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info.Totals.Counters = maps.Clone(counters)
}

func (s *shim) Info(context.Context) (control.Info, error) {
	s.mu.Lock()
	info, stuck := s.info, s.stuck
	s.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return info, nil
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func reaped(n uint64) map[string]uint64 { return map[string]uint64{control.Reaped: n} }

const (
	sumReaped  = "quoin_shims_reaped_total kind=process"
	sumPrivate = "quoin_shims_memory_bytes kind=private"
	countOK    = "quoin_shims_count status=ok"
	countStuck = "quoin_shims_count status=stuck"
	countGone  = "quoin_shims_count status=gone"
)

func TestSums(t *testing.T) {
	b := newBed(t, false)
	b.expect("before the first task", map[string]float64{countOK: 0, sumReaped: 0, sumPrivate: 0})
	b.start("k8s.io", "a", epoch, reaped(3))
	b.start("default", "a", epoch, map[string]uint64{control.Reaped: 4, control.EventsDropped: 1, "later": 9})
	b.expect("with two", map[string]float64{
		countOK: 2, sumReaped: 7, sumPrivate: 20, "quoin_shims_events_dropped_total": 1,
		"quoin_shims_containers": 2, "quoin_shims_execs": 4, "quoin_shims_goroutines": 10, "quoin_shims_versions version=1.0": 2,
	})
	for name := range b.scrape() {
		if strings.HasPrefix(name, "quoin_shim_") || strings.Contains(name, "id=") {
			t.Errorf("%s, though series of each shim were not asked for", name)
		}
	}
}

// What a shim counted stays in the sums when it ends, in whatever way.
func TestSumsNeverGoBack(t *testing.T) {
	b := newBed(t, false)
	one := b.start("ns", "a", epoch, reaped(3))
	two := b.start("ns", "b", epoch, reaped(4))
	b.expect("both", map[string]float64{sumReaped: 7, sumPrivate: 20})

	one.stop()
	b.expect("one is stuck: what it said last", map[string]float64{sumReaped: 7, sumPrivate: 20, countOK: 1, countStuck: 1})
	one.counts(reaped(5))
	one.resume()
	b.expect("it goes on", map[string]float64{sumReaped: 9, countOK: 2, countStuck: 0})

	one.kill()
	b.expect("it was killed", map[string]float64{sumReaped: 9, sumPrivate: 10, countOK: 1, countGone: 1})
	one.end()
	b.expect("and cleaned up after", map[string]float64{sumReaped: 9, sumPrivate: 10, countOK: 1, countGone: 0})
	b.expect("and again", map[string]float64{sumReaped: 9})

	again := b.start("ns", "a", epoch.Add(time.Hour), reaped(1))
	b.expect("another of its name", map[string]float64{sumReaped: 10, sumPrivate: 20, countOK: 2})
	again.kill() // and replaced before the next scrape
	b.start("ns", "a", epoch.Add(2*time.Hour), reaped(2))
	b.expect("a third", map[string]float64{sumReaped: 12, sumPrivate: 20, countOK: 2})

	two.end()
	b.expect("the other has ended", map[string]float64{sumReaped: 12, sumPrivate: 10, countOK: 1})
	if n := len(b.known); n != 1 {
		t.Errorf("%d shims are remembered, want 1", n)
	}
}

// A shim that comes and goes between two scrapes counts: it is asked for its last
// words.
func TestShortLivedShim(t *testing.T) {
	b := newBed(t, false)
	unasked := b.start("ns", "first", epoch, reaped(100))
	deleted := b.Deleting(t.Context(), "ns", "first")
	unasked.end()
	deleted()
	b.expect("nobody has scraped before it ended", map[string]float64{sumReaped: 0})

	s := b.start("ns", "a", epoch, reaped(1))
	deleted = b.Deleting(t.Context(), "ns", "a")
	s.counts(reaped(2)) // by the deletion
	deleted()
	s.end()
	b.expect("after it", map[string]float64{sumReaped: 2, sumPrivate: 0, countOK: 0})
	b.expect("for good", map[string]float64{sumReaped: 2})

	// In a pod the shim goes on.
	pod := b.start("ns", "pod", epoch, reaped(10))
	b.Deleting(t.Context(), "ns", "pod")()
	pod.counts(reaped(11))
	b.expect("a pod's", map[string]float64{sumReaped: 13, countOK: 1})

	for _, id := range []string{"none", "../ns/pod", ""} {
		b.Deleting(t.Context(), "ns", id)()
	}
	b.expect("what is not there", map[string]float64{sumReaped: 13, countOK: 1})
}

func TestPerShim(t *testing.T) {
	b := newBed(t, true)
	s := b.start("ns", "a", time.Now().Add(-time.Minute), reaped(3))
	const who = " id=a namespace=ns"
	b.expect("while it runs", map[string]float64{
		"quoin_shim_up" + who: 1, "quoin_shim_containers" + who: 1, "quoin_shim_info" + who + " version=1.0": 1,
		"quoin_shim_memory_bytes id=a kind=private namespace=ns": 10, sumReaped: 3,
		"quoin_shim_reaped_total id=a kind=process namespace=ns": 3,
	})
	if age := b.scrape()["quoin_shim_uptime_seconds"+who]; age < 60 || age > 120 {
		t.Errorf("it is %v s old", age)
	}
	s.stop()
	b.expect("when it is stuck", map[string]float64{"quoin_shim_up" + who: 0, "quoin_shim_containers" + who: 1})
	s.end()
	for name := range b.scrape() {
		if strings.Contains(name, "id=a") {
			t.Errorf("%s is served of a shim that has ended", name)
		}
	}
}

// Whatever names shims make up, there are few series.
func TestLabelsAreBounded(t *testing.T) {
	b := newBed(t, false)
	s := b.start("ns", "a", epoch, nil)
	s.mu.Lock()
	s.info.Totals.Timeouts = map[string]uint64{strings.Repeat("x", 1000): 1, "": 1}
	s.info.Totals.Calls = map[string]control.Calls{}
	for i := range 1000 {
		s.info.Totals.Timeouts[fmt.Sprint("step ", i)] = 2
		s.info.Totals.Calls[fmt.Sprint(i)] = control.Calls{Count: 3, Failed: 1, Time: time.Second}
	}
	s.mu.Unlock()
	var timeouts, calls, seconds float64
	all := b.scrape()
	for name, v := range all {
		switch {
		case strings.HasPrefix(name, "quoin_shims_timeouts_total"):
			timeouts += v
		case strings.HasPrefix(name, "quoin_shims_runtime_calls_total"):
			calls += v
		case strings.HasPrefix(name, "quoin_shims_runtime_seconds_total"):
			seconds += v
		}
	}
	if timeouts != 2002 || calls != 3000 || seconds != 1000 {
		t.Errorf("%v timeouts, %v calls, %v s: not all is counted", timeouts, calls, seconds)
	}
	if len(all) > 300 {
		t.Errorf("%d series", len(all))
	}
}

// Two scrapes at once ask once, and a scrape of many shims takes no longer than one
// that waits for a stuck one.
func TestManyShims(t *testing.T) {
	b := newBed(t, false)
	for i := range 60 {
		s := b.start("ns", fmt.Sprint("s", i), epoch, reaped(1))
		if i%2 == 0 {
			s.stop()
		}
	}
	begun := time.Now()
	b.expect("with half of them stuck", map[string]float64{countOK: 30, countStuck: 30, sumReaped: 30})
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the scrape took %v", took)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := b.registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
