// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/sirupsen/logrus"
	"google.golang.org/protobuf/types/known/emptypb"
)

// daemon is containerd's events service on a real socket. What it received
// outlives its restarts.
type daemon struct {
	t        *testing.T
	path     string
	listener net.Listener
	server   *ttrpc.Server
	service  *service
	served   chan struct{}

	mu       sync.Mutex
	received []*types.Envelope
	arrived  chan struct{}
	// answer, if set, is called before an event is taken.
	answer func(context.Context, *types.Envelope) error
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "qe") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &daemon{t: t, path: filepath.Join(dir, "s"), arrived: make(chan struct{}, 1)}
}

func (d *daemon) start() *daemon {
	d.t.Helper()
	server, err := ttrpc.NewServer()
	if err != nil {
		d.t.Fatal(err)
	}
	d.service = &service{daemon: d}
	eventsapi.RegisterTTRPCEventsService(server, d.service)
	listener, err := net.Listen("unix", d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	d.server, d.listener, d.served = server, listener, make(chan struct{})
	go func(served chan struct{}) {
		defer close(served)
		_ = server.Serve(context.Background(), listener) // ends with stop
	}(d.served)
	d.t.Cleanup(d.stop)
	return d
}

func (d *daemon) stop() {
	if d.server == nil {
		return
	}
	d.mu.Lock()
	d.service.dead = true // as after a kill, whatever its goroutines still do
	d.mu.Unlock()
	_ = d.server.Close()
	_ = d.listener.Close()
	<-d.served
	d.server = nil
}

// service is one life of the daemon.
type service struct {
	daemon *daemon
	dead   bool // guarded by the daemon's mutex
}

func (s *service) Forward(ctx context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	d := s.daemon
	d.mu.Lock()
	answer := d.answer
	d.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, r.Envelope); err != nil {
			return nil, errgrpc.ToGRPC(err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.dead {
		return nil, errdefs.ErrUnavailable
	}
	d.received = append(d.received, r.Envelope)
	wake(d.arrived)
	return &emptypb.Empty{}, nil
}

func (d *daemon) setAnswer(f func(context.Context, *types.Envelope) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = f
}

// await returns what has arrived, as "topic id", once that is n events.
func (d *daemon) await(n int) []string {
	d.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		d.mu.Lock()
		received := d.received
		d.mu.Unlock()
		if len(received) >= n {
			return describe(d.t, received)
		}
		select {
		case <-d.arrived:
		case <-limit:
			d.t.Fatalf("%d of %d events arrived", len(received), n)
		}
	}
}

func describe(t *testing.T, events []*types.Envelope) []string {
	t.Helper()
	out := make([]string, 0, len(events))
	for _, e := range events {
		v, err := typeurl.UnmarshalAny(e.Event)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Topic+" "+v.(interface{ GetContainerID() string }).GetContainerID())
	}
	return out
}

func quietLog() *log.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func publisher(t *testing.T, path string, change func(*settings)) *Publisher {
	t.Helper()
	s := defaults()
	if change != nil {
		change(&s)
	}
	p := newPublisher(Config{Address: path, Namespace: "ns", Dir: t.TempDir(), Log: quietLog()}, s)
	t.Cleanup(func() {
		_ = p.Close(0) // what is left was the test's intention
	})
	return p
}

func expect(t *testing.T, got []string, topic string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d events, want %d: %.10q", len(got), to-from, got)
	}
	for i := range got {
		if want := fmt.Sprintf("%s c%d", topic, from+i); got[i] != want {
			t.Fatalf("event %d: %q, want %q", i, got[i], want)
		}
	}
}

func publishStarts(p *Publisher, from, to int) {
	for i := from; i < to; i++ {
		p.Publish(TopicStart, &eventtypes.TaskStart{ContainerID: fmt.Sprintf("c%d", i), Pid: 1}, time.Now())
	}
}

func TestDelivers(t *testing.T) {
	d := newDaemon(t).start()
	p := publisher(t, "unix://"+d.path, nil)
	at := time.Date(2026, 11, 24, 1, 2, 3, 4, time.UTC)
	exit := &eventtypes.TaskExit{ContainerID: "c", ID: "c", Pid: 7, ExitStatus: 137}
	p.Publish(TopicExit, exit, at)
	exit.ExitStatus = 0 // the publisher has its own
	if err := p.Close(time.Minute); err != nil {
		t.Fatal(err)
	}
	d.await(1)
	e := d.received[0]
	if e.Namespace != "ns" || e.Topic != "/tasks/exit" || !e.Timestamp.AsTime().Equal(at) || e.Event.TypeUrl != "containerd.events.TaskExit" {
		t.Errorf("got %v", e)
	}
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil || v.(*eventtypes.TaskExit).ExitStatus != 137 {
		t.Errorf("got %v, %v", v, err)
	}
	if got := p.Stats(); got != (Stats{Delivered: 1}) {
		t.Errorf("stats %+v", got)
	}
}

// TestDaemonDown publishes to a daemon that comes seconds later.
func TestDaemonDown(t *testing.T) {
	d := newDaemon(t)
	p := publisher(t, d.path, nil)
	publishStarts(p, 0, 500)
	<-time.After(3 * time.Second) // the outage itself
	publishStarts(p, 500, 1000)
	d.start()
	expect(t, d.await(1000), TopicStart, 0, 1000)
}

// TestRestarts has the daemon go and come while events flow: each that it had
// acknowledged comes once, all come, and in order.
func TestRestarts(t *testing.T) {
	d := newDaemon(t).start()
	p := publisher(t, d.path, func(s *settings) { s.backoff = backoff{time.Millisecond, 10 * time.Millisecond} })
	for round := range 5 {
		publishStarts(p, round*100, round*100+100)
		d.await(round*100 + 50)
		d.stop()
		d.start()
	}
	got := d.await(500)
	last := -1
	for _, e := range got {
		var i int
		if _, err := fmt.Sscanf(e, TopicStart+" c%d", &i); err != nil {
			t.Fatal(err)
		}
		switch i {
		case last + 1:
			last = i
		case last: // its acknowledgement was lost with the daemon
		default:
			t.Fatalf("%d after %d", i, last)
		}
	}
	if len(got) > 505 {
		t.Errorf("%d events came twice, at 5 restarts", len(got)-500)
	}
}

// TestWake skips the wait for the next attempt.
func TestWake(t *testing.T) {
	d := newDaemon(t)
	p := publisher(t, d.path, func(s *settings) { s.backoff = backoff{time.Hour, time.Hour} })
	publishStarts(p, 0, 3)
	d.start()
	p.Wake()
	expect(t, d.await(3), TopicStart, 0, 3)
}

// TestDaemonHangs publishes to a daemon that accepts and does not answer for a
// time that is long beside all others: the caller is not held, and nothing is sent
// twice.
func TestDaemonHangs(t *testing.T) {
	d := newDaemon(t).start()
	hung, goOn := make(chan struct{}, 1), make(chan struct{})
	var calls atomic.Int32
	d.setAnswer(func(context.Context, *types.Envelope) error {
		calls.Add(1)
		wake(hung)
		<-goOn
		return nil
	})
	p := publisher(t, d.path, func(s *settings) {
		s.connect = 10 * time.Millisecond
		s.linger = time.Millisecond
		s.backoff = backoff{time.Millisecond, 10 * time.Millisecond}
	})
	publishStarts(p, 0, 100)
	<-hung
	<-time.After(200 * time.Millisecond) // the outage itself
	p.Wake()
	// A connection may have failed at first, in the short time that it is given here.
	if s := p.Stats(); s.Queued != 100 || s.Delivered != 0 || calls.Load() != 1 {
		t.Errorf("stats %+v, %d calls", s, calls.Load())
	}
	close(goOn)
	expect(t, d.await(100), TopicStart, 0, 100)
	if err := p.Close(time.Minute); err != nil || calls.Load() != 100 {
		t.Errorf("%d calls for 100 events, %v", calls.Load(), err)
	}
}

// TestCloseGivesUp bounds Close while a call hangs for longer.
func TestCloseGivesUp(t *testing.T) {
	d := newDaemon(t).start()
	hung := make(chan struct{}, 1)
	d.setAnswer(func(ctx context.Context, _ *types.Envelope) error {
		wake(hung)
		<-ctx.Done()
		return ctx.Err()
	})
	p := publisher(t, d.path, nil)
	publishStarts(p, 0, 10)
	<-hung
	err := p.Close(50 * time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "10 events") {
		t.Errorf("close: %v", err)
	}
	publishStarts(p, 10, 11)
	if s := p.Stats(); s != (Stats{Dropped: 11}) {
		t.Errorf("stats %+v", s)
	}
	if err := p.Close(time.Minute); err != nil {
		t.Errorf("a second time: %v", err)
	}
	d.setAnswer(nil)
}

// TestCloseIsPatient: as long as the daemon takes events, however slowly, Close waits;
// once it takes none, it does not.
func TestCloseIsPatient(t *testing.T) {
	const patience, events = 5 * time.Second, 100
	for _, c := range []struct {
		name string
		ends bool
		want time.Duration
	}{
		{"to the last", true, events * (patience - 1)},
		{"not for ever", false, events*(patience-1) + patience},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(Config{Address: "/nonexistent/s", Log: quietLog()})
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range events {
						time.Sleep(patience - 1) // the bubble's clock: the daemon's slowness itself
						p.finish(entry{}, true)
					}
					if !c.ends {
						<-p.ctx.Done()
					}
				}()
				begun := time.Now()
				p.awaitSender(done, patience)
				if took := time.Since(begun); took != c.want || (p.ctx.Err() == nil) != c.ends {
					t.Errorf("it waited %v, want %v; the sender was ended: %v", took, c.want, p.ctx.Err())
				}
				p.cancel()
			})
		})
	}
}

// TestPeerDoesNotRead has a listener whose connections nobody reads: not even
// events that fill the socket's buffer may hold anything.
func TestPeerDoesNotRead(t *testing.T) {
	d := newDaemon(t)
	l, err := net.Listen("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := publisher(t, d.path, nil)
	p.Publish(TopicCreate, &eventtypes.TaskCreate{ContainerID: "c0", Bundle: strings.Repeat("x", 900<<10)}, time.Now())
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil { // it is writing
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.Close(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("close took %s", d)
	}
}

// TestRejected does not let an event that the daemon never takes hold the others.
func TestRejected(t *testing.T) {
	d := newDaemon(t).start()
	d.setAnswer(func(_ context.Context, e *types.Envelope) error {
		if e.Topic == TopicOOM {
			return fmt.Errorf("topic: %w", errdefs.ErrInvalidArgument)
		}
		return nil
	})
	p := publisher(t, d.path, nil)
	publishStarts(p, 0, 1)
	p.Publish(TopicOOM, &eventtypes.TaskOOM{ContainerID: "c0"}, time.Now())
	p.Publish(TopicOOM, "no message", time.Now())
	p.Publish("\xff", &eventtypes.TaskOOM{ContainerID: "c0"}, time.Now())
	p.Publish(TopicOOM, &eventtypes.TaskOOM{ContainerID: "\xff"}, time.Now())
	publishStarts(p, 1, 2)
	expect(t, d.await(2), TopicStart, 0, 2)
	if err := p.Close(time.Minute); err != nil {
		t.Fatal(err)
	}
	if s := p.Stats(); s != (Stats{Delivered: 2, Dropped: 4}) {
		t.Errorf("stats %+v", s)
	}
}

// TestIdle leaves neither goroutine nor connection when there is nothing to send,
// and starts again.
func TestIdle(t *testing.T) {
	d := newDaemon(t).start()
	before := runtime.NumGoroutine()
	p := publisher(t, d.path, func(s *settings) { s.linger = 10 * time.Millisecond })
	if n := runtime.NumGoroutine(); n > before { // those of other tests may just be ending
		t.Errorf("a new publisher has %d goroutines", n-before)
	}
	for round := range 3 {
		publishStarts(p, round, round+1)
		d.await(round + 1)
		p.mu.Lock()
		done := p.done
		p.mu.Unlock()
		if done != nil {
			<-done
		}
	}
	limit := time.After(10 * time.Second)
	for runtime.NumGoroutine() > before { // the daemon's own end by and by
		select {
		case <-limit:
			t.Fatalf("%d goroutines are left", runtime.NumGoroutine()-before)
		default:
			runtime.Gosched()
		}
	}
	expect(t, d.await(3), TopicStart, 0, 3)
}

func TestNoAddress(t *testing.T) {
	for _, address := range []string{"", "relative", "@abstract", "\x00x", "tcp://127.0.0.1:1"} {
		p := New(Config{Address: address, Namespace: "ns", Dir: t.TempDir(), Log: quietLog()})
		publishStarts(p, 0, 2)
		if s := p.Stats(); s != (Stats{Dropped: 2}) {
			t.Errorf("%q: %+v", address, s)
		}
		if err := p.Close(time.Minute); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestConcurrentPublishers keeps each caller's order.
func TestConcurrentPublishers(t *testing.T) {
	d := newDaemon(t).start()
	p := publisher(t, d.path, func(s *settings) { s.linger = time.Microsecond })
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				p.Publish(TopicStart, &eventtypes.TaskStart{ContainerID: fmt.Sprintf("%d-%d", g, i)}, time.Now())
			}
		})
	}
	wg.Wait()
	last := map[int]int{0: -1, 1: -1, 2: -1, 3: -1}
	for _, e := range d.await(800) {
		var g, i int
		if _, err := fmt.Sscanf(e, TopicStart+" %d-%d", &g, &i); err != nil || i != last[g]+1 {
			t.Fatalf("%q after %d (%v)", e, last[g], err)
		}
		last[g] = i
	}
}

// BenchmarkPublish is what an event costs its publisher.
func BenchmarkPublish(b *testing.B) {
	p := newPublisher(Config{Address: "/nonexistent/s", Namespace: "ns", Dir: b.TempDir(), Log: quietLog()}, defaults())
	e := &eventtypes.TaskExit{ContainerID: strings.Repeat("c", 64), ID: strings.Repeat("e", 64), Pid: 1}
	b.ReportAllocs()
	for b.Loop() {
		p.Publish(TopicExit, e, time.Now())
	}
	_ = p.Close(0)
}
