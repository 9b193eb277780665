// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// recorder collects callbacks.
type recorder struct{ ids chan string }

func watch(t *testing.T) (*OOMWatcher, recorder) {
	t.Helper()
	r := recorder{ids: make(chan string, 64)}
	w, err := NewOOMWatcher(func(id string) { r.ids <- id })
	must(t, err)
	t.Cleanup(w.Close)
	return w, r
}

func (r recorder) expect(t *testing.T, id string) {
	t.Helper()
	select {
	case got := <-r.ids:
		if got != id {
			t.Errorf("told of %q, want %q", got, id)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("not told of the OOM kill in %s", id)
	}
}

// silent makes the watcher handle everything that is pending, by way of another
// watch, and then expects that nothing was told.
func (r recorder) silent(t *testing.T) {
	t.Helper()
	select {
	case got := <-r.ids:
		t.Errorf("told of %q without an OOM kill", got)
	case <-time.After(50 * time.Millisecond):
	}
}

// limit is enough for two helpers, even with the race detector.
const limit = 128 << 20

// limited is a v1 memory cgroup of that size without swap, with a helper in it.
func limited(t *testing.T) (*Cgroup, *process) {
	t.Helper()
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	d, ok := c.controller("memory")
	if !ok {
		t.Fatal("no memory controller")
	}
	must(t, writeFile(d.dir, "memory.limit_in_bytes", strconv.Itoa(limit)))
	if fileExists(filepath.Join(d.dir, "memory.memsw.limit_in_bytes")) {
		must(t, writeFile(d.dir, "memory.memsw.limit_in_bytes", strconv.Itoa(limit)))
	}
	return c, p
}

func TestOOMLegacy(t *testing.T) {
	w, r := watch(t)
	c, p := limited(t)
	must(t, w.Add("c1", c))
	if err := w.Add("c1", c); !errdefs.IsAlreadyExists(err) {
		t.Errorf("added twice: %v", err)
	}
	// A child is killed, the first process goes on: nobody exits whom the
	// shim would wait for, so the watcher alone must find it.
	p.tell(t, "child")
	p.expect(t, "killed")
	r.expect(t, "c1")
	// Twice is two kills.
	p.tell(t, "child")
	p.expect(t, "killed")
	r.expect(t, "c1")
	p.tell(t, "eat")
	_ = p.Wait()
	r.expect(t, "c1")
	if w.Check("c1") {
		t.Error("a kill that was told is found again")
	}
	r.silent(t)
}

// The last word before the exit is told: the watcher's goroutine may be late.
func TestOOMCheckAtExit(t *testing.T) {
	var told atomic.Int32
	w, err := NewOOMWatcher(func(string) { told.Add(1) })
	must(t, err)
	defer w.Close()
	c, p := limited(t)
	must(t, w.Add("c1", c))
	p.tell(t, "eat")
	_ = p.Wait()
	w.Check("c1")
	if told.Load() != 1 {
		t.Errorf("after Check the kill was told %d times, want once", told.Load())
	}
	w.Remove("c1")
	if w.Check("c1") || told.Load() != 1 {
		t.Error("told after Remove")
	}
	w.Remove("c1")
}

// The v1 eventfd is signalled at a removal as well.
func TestOOMNotToldAtRemoval(t *testing.T) {
	w, r := watch(t)
	c, p := limited(t)
	must(t, w.Add("c1", c))
	p.tell(t, "exit")
	_ = p.Wait()
	removeAll(t, testName(t))
	r.silent(t)
	if w.Check("c1") {
		t.Error("a removed cgroup has an OOM kill")
	}
	if err := w.Add("c2", c); !errdefs.IsNotFound(err) {
		t.Errorf("watching a cgroup that is gone: %v", err)
	}
}

// TestOOMEndedLegacy: the cgroup is gone before anybody read its counter, as
// systemd removes it, and whether or not the watcher's goroutine was in time.
func TestOOMEndedLegacy(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(*testing.T, *process)
		want int32
	}{
		"memory":   {func(t *testing.T, p *process) { p.tell(t, "eat") }, 1},
		"somebody": {func(t *testing.T, p *process) { must(t, p.Process.Kill()) }, 0},
	} {
		for _, late := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s-%t", name, late), func(t *testing.T) {
				var told atomic.Int32
				w, err := NewOOMWatcher(func(string) { told.Add(1) })
				must(t, err)
				defer w.Close()
				c, p := limited(t)
				must(t, w.Add("c1", c))
				if late {
					w.mu.Lock() // which the goroutine needs to look
				}
				tc.end(t, p)
				_ = p.Wait()
				removeAll(t, testName(t))
				if late {
					w.mu.Unlock()
				}
				w.Ended("c1")
				if w.Ended("c1") || told.Load() != tc.want {
					t.Errorf("told %d times, want %d", told.Load(), tc.want)
				}
			})
		}
	}
}

// cgroup2 has no memory controller here, so the huge page controller, whose
// events file the kernel changes and announces in the same way, stands in.
func TestOOMUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	must(t, writeFile(mountPoint, "cgroup.subtree_control", "+hugetlb"))
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)
	must(t, writeFile(c.unified, "hugetlb.2MB.rsvd.max", "0"))
	w, r := watch(t)
	if err := w.Add("c1", c); !errdefs.IsNotFound(err) {
		t.Errorf("watching without a memory controller: %v", err)
	}
	source, err := openEvents(c.unified, "hugetlb.2MB.events", "max")
	must(t, err)
	must(t, w.add("c1", source, ""))
	for range 3 {
		p.tell(t, "huge")
		p.expect(t, "huge")
		r.expect(t, "c1")
	}
	p.tell(t, "exit")
	_ = p.Wait()
	removeAll(t, testName(t))
	r.silent(t)
	w.Remove("c1")
}

func TestOOMUnifiedKey(t *testing.T) {
	root := fake(t, map[string]string{"memory.events": "low 0\nhigh 0\nmax 9\noom 8\noom_kill 7\noom_group_kill 6\n"})
	s, err := oomSourceOf(&Cgroup{mode: Unified, unified: root})
	must(t, err)
	defer s.close()
	if n, state := s.kills(); n != 7 || state != oomSettled {
		t.Errorf("%d kills, state %d", n, state)
	}
}

// A watch costs one descriptor; Remove and Close give everything back.
func TestOOMLeavesNothing(t *testing.T) {
	c, _ := limited(t)
	before := descriptors(t)
	w, err := NewOOMWatcher(func(string) {})
	must(t, err)
	empty, goroutines := descriptors(t), runtime.NumGoroutine()
	const n = 200
	for i := range n {
		must(t, w.Add(fmt.Sprint(i), c))
	}
	if got := descriptors(t) - empty; got != n {
		t.Errorf("%d watches use %d descriptors", n, got)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("%d watches use %d goroutines", n, got-goroutines)
	}
	for i := range n / 2 {
		w.Remove(fmt.Sprint(i))
	}
	if got := descriptors(t) - empty; got != n/2 {
		t.Errorf("%d watches use %d descriptors", n/2, got)
	}
	w.Close()
	if got := descriptors(t); got != before {
		t.Errorf("%d descriptors after Close, %d before", got, before)
	}
	if err := w.Add("late", c); err == nil {
		t.Error("a closed watcher takes a watch")
	}
}

// Kills while watches come and go: none is told twice, or after its Remove.
func TestOOMConcurrent(t *testing.T) {
	c, p := limited(t)
	var told, removed sync.Map
	w, err := NewOOMWatcher(func(id string) {
		if _, again := told.LoadOrStore(id, true); again {
			t.Errorf("%s was told twice for one kill", id)
		}
		if _, late := removed.Load(id); late {
			t.Errorf("%s was told after its Remove", id)
		}
	})
	must(t, err)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprint(worker, "-", i)
				if err := w.Add(id, c); err != nil {
					t.Error(err)
				}
				w.Check(id)
				w.Remove(id)
				removed.Store(id, true)
			}
		})
	}
	must(t, w.Add("stays", c))
	p.tell(t, "child")
	p.expect(t, "killed")
	w.Check("stays")
	close(stop)
	wg.Wait()
	w.Close()
	if _, ok := told.Load("stays"); !ok {
		t.Error("the kill was not told")
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") {
			n++
		}
	}
	return n
}

func TestRelooks(t *testing.T) {
	r := relooks{}
	now := time.Unix(100, 0)
	if !r.deadline().IsZero() {
		t.Error("a timer while there is nothing to look at")
	}
	r.begin(1, now)
	start, looks := now, 0
	for len(r) > 0 {
		now = r.deadline()
		for _, token := range r.due(now) {
			r.next(token, now)
			looks++
		}
	}
	if total := now.Sub(start); looks != 10 || total < time.Second || total > 2*time.Second {
		t.Errorf("%d looks in %v", looks, total)
	}
}
