// SPDX-License-Identifier: Apache-2.0

package events

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// inDir makes a publisher whose spool is in dir.
func inDir(t *testing.T, dir, address string, change func(*settings)) *Publisher {
	t.Helper()
	s := defaults()
	s.backoff = backoff{time.Millisecond, 10 * time.Millisecond}
	if change != nil {
		change(&s)
	}
	p := newPublisher(Config{Address: address, Namespace: "ns", Dir: dir, Log: quietLog()}, s)
	t.Cleanup(func() { crash(p) })
	return p
}

// crash ends a publisher as the end of its process does.
func crash(p *Publisher) {
	p.mu.Lock()
	p.closed = true
	done := p.done
	p.mu.Unlock()
	p.cancel()
	if done != nil {
		<-done
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.spool.close()
}

func publishExec(p *Publisher, n int) {
	p.Publish(TopicExit, &eventtypes.TaskExit{ContainerID: fmt.Sprintf("c%d", n), ID: "exec"}, time.Now())
}

func publishInit(p *Publisher, n int) {
	id := fmt.Sprintf("c%d", n)
	p.Publish(TopicExit, &eventtypes.TaskExit{ContainerID: id, ID: id}, time.Now())
}

// TestSpoolOutlivesTheShim: what was not delivered is there for the next, once.
func TestSpoolOutlivesTheShim(t *testing.T) {
	d, dir := newDaemon(t), t.TempDir()
	p := inDir(t, dir, d.path, nil)
	publishStarts(p, 0, 5)
	if _, err := OpenLeftover(dir); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("while the shim lives: %v", err)
	}
	crash(p)
	expect(t, left(t, dir), TopicStart, 0, 5)
	info, err := os.Lstat(filepath.Join(dir, spoolFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	d.start()
	l, err := OpenLeftover(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Deliver(t.Context(), d.path, func(e Event) bool { return e.Seq == 2 })
	if err != nil || n != 4 {
		t.Errorf("%d, %v", n, err)
	}
	if got := d.await(4); !slices.Equal(got, []string{"/tasks/start c0", "/tasks/start c2", "/tasks/start c3", "/tasks/start c4"}) {
		t.Errorf("%q", got)
	}
	if d.received[0].Namespace != "ns" {
		t.Errorf("namespace %q", d.received[0].Namespace)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if got := left(t, dir); got != nil {
		t.Errorf("left after the delivery: %q", got)
	}
}

// TestSpoolForgetsWhatIsDelivered, also in the middle of a queue.
func TestSpoolForgetsWhatIsDelivered(t *testing.T) {
	d, dir := newDaemon(t).start(), t.TempDir()
	p := inDir(t, dir, d.path, nil)
	publishStarts(p, 0, 10)
	d.await(10)
	d.stop()
	publishStarts(p, 10, 13)
	crash(p)
	got := left(t, dir)
	// The acknowledgement of the last may have gone with the daemon.
	if len(got) == 4 {
		got = got[1:]
	}
	expect(t, got, TopicStart, 10, 13)
}

func TestSpoolIsCutWhenEmpty(t *testing.T) {
	d, dir := newDaemon(t).start(), t.TempDir()
	p := inDir(t, dir, d.path, func(s *settings) { s.linger = time.Millisecond })
	publishStarts(p, 0, 2000)
	d.await(2000)
	limit := time.After(10 * time.Second)
	for {
		info, err := os.Stat(filepath.Join(dir, spoolFile))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == headerSize {
			break
		}
		select {
		case <-limit:
			t.Fatalf("%d bytes are left", info.Size())
		default:
			runtime.Gosched()
		}
	}
	if err := p.Close(time.Minute); err != nil {
		t.Fatal(err)
	}
}

// TestFlood publishes far more than is kept, with the daemon away: memory and disk
// stay bounded, no init's exit is lost, and what comes is in order.
func TestFlood(t *testing.T) {
	d, dir := newDaemon(t), t.TempDir()
	p := inDir(t, dir, d.path, func(s *settings) { s.limits.spool = 4 << 20 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const events, inits = 60_000, 100
	for i := range events {
		switch {
		case i%(events/inits) == 0:
			publishInit(p, i)
		case i%4 == 1:
			publishExec(p, i)
		default:
			p.Publish(TopicExecAdded, &eventtypes.TaskExecAdded{ContainerID: fmt.Sprintf("c%d", i), ExecID: "e"}, time.Now())
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d bytes of memory are held", grown)
	}
	info, err := os.Stat(filepath.Join(dir, spoolFile))
	if err != nil || info.Size() > 4<<20 {
		t.Errorf("the spool has %d bytes, %v", info.Size(), err)
	}
	s := p.Stats()
	if s.Queued > 32<<10 || s.Queued < 10_000 || s.Queued+int(s.Dropped) != events {
		t.Fatalf("stats %+v", s)
	}
	d.start()
	p.Wake()
	last, seen := -1, 0
	for _, e := range d.await(s.Queued) {
		var i int
		_, id, _ := strings.Cut(e, " ")
		if _, err := fmt.Sscanf(id, "c%d", &i); err != nil || i <= last {
			t.Fatalf("%q after %d", e, last)
		}
		if last = i; i%(events/inits) == 0 {
			seen++
		}
	}
	if seen != inits || last != events-1 {
		t.Errorf("%d of %d exits of inits arrived, the last event is %d", seen, inits, last)
	}
}

// TestSpoolIsBounded drops others before exits, on disk as in memory.
func TestSpoolIsBounded(t *testing.T) {
	dir := t.TempDir()
	p := inDir(t, dir, newDaemon(t).path, func(s *settings) {
		s.limits = limits{count: 20, window: 600, spool: 1 << 20}
		s.backoff = backoff{time.Hour, time.Hour}
	})
	publishStarts(p, 0, 30)
	for i := 30; i < 45; i++ {
		publishExec(p, i)
	}
	for i := 45; i < 55; i++ {
		publishInit(p, i)
	}
	stats := p.Stats()
	crash(p)
	var starts, exits int
	for _, e := range left(t, dir) {
		if strings.HasPrefix(e, TopicStart) {
			starts++
		} else {
			exits++
		}
	}
	// One event may be under way, where nobody can drop it.
	if starts > 1 || exits < 20 || starts+exits > 21 || stats.Queued != starts+exits || stats.Dropped != uint64(55-starts-exits) {
		t.Errorf("%d starts and %d exits are left, stats %+v", starts, exits, stats)
	}
}

// TestSpoolOfInits has more exits of inits than the spool may have bytes: none is
// lost.
func TestSpoolOfInits(t *testing.T) {
	dir := t.TempDir()
	p := inDir(t, dir, newDaemon(t).path, func(s *settings) {
		s.limits = limits{count: 20, window: 600, spool: 1000}
		s.backoff = backoff{time.Hour, time.Hour}
	})
	for i := range 100 {
		publishInit(p, i)
		publishExec(p, i)
	}
	stats := p.Stats()
	crash(p)
	var inits []string
	for _, e := range left(t, dir) {
		if !slices.Contains(inits, e) {
			inits = append(inits, e)
		}
	}
	expect(t, inits, TopicExit, 0, 100)
	if stats.Queued < 100 || stats.Queued+int(stats.Dropped) != 200 {
		t.Errorf("stats %+v", stats)
	}
}

// TestDiskFull keeps events in memory when the spool cannot be written, and
// delivers them.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := newDaemon(t)
	p := inDir(t, dir, d.path, nil)
	publishStarts(p, 0, 200)
	d.start()
	p.Wake()
	expect(t, d.await(200), TopicStart, 0, 200)
	crash(p)
	if got := left(t, dir); len(got) > 1 { // the last acknowledgement
		t.Errorf("%q", got)
	}
}

// TestNoLinkIsFollowed: a link in the spool's place is replaced, and not read.
func TestNoLinkIsFollowed(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, spoolFile)); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := OpenLeftover(dir); !errors.As(err, &corrupt) {
		t.Errorf("read: %v", err)
	}
	p := inDir(t, dir, newDaemon(t).path, nil)
	publishStarts(p, 0, 1)
	crash(p)
	if b, err := os.ReadFile(victim); err != nil || string(b) != "mine" {
		t.Errorf("written through the link: %q, %v", b, err)
	}
	expect(t, left(t, dir), TopicStart, 0, 1)
}

func TestNoSpool(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenLeftover(dir); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, spoolFile), 0o600); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := OpenLeftover(dir); !errors.As(err, &corrupt) {
		t.Errorf("a FIFO: %v", err)
	}
}
