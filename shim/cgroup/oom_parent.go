// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// oomParent is the cgroup2 above watched ones, most often a pod's. systemd
// removes the cgroup of a scope when its last process has ended, often before
// anybody could read that it was an OOM kill. The counter of the cgroup above is
// hierarchical, and stays: what it has counted and no watched cgroup shows,
// happened in one that is gone.
type oomParent struct {
	dir string
	// told is the sum of the kills that were read in watched cgroups below.
	told atomic.Int64

	// mu guards the bases of the watches below; it is held before a watch's mu.
	mu    sync.Mutex
	below map[*oomWatch]bool
}

// parentOf returns where the kills of a cgroup are counted once it is gone: the
// nearest directory above that is not of the same scope. "" if there is none.
func parentOf(c *Cgroup) string {
	if c.mode != Unified {
		return "" // v1 counts a kill in the cgroup of its victim alone
	}
	dir := filepath.Dir(c.unified)
	for strings.HasSuffix(dir, ".scope") {
		dir = filepath.Dir(dir)
	}
	if !fileExists(filepath.Join(dir, "memory.events")) {
		return "" // the root of all has no such file
	}
	return dir
}

// kills reads the counter; false when the cgroup is gone.
func (p *oomParent) kills() (int64, bool) {
	fd, err := retryInt(func() (int, error) {
		return unix.Open(filepath.Join(p.dir, "memory.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	n, err := eventValue(fd, "oom_kill")
	return int64(n), err == nil
}

// steadyReads bound the attempts to read counters while kills go on.
const steadyReads = 5

// unclaimed is the number of kills that no watched cgroup shows, and the watches
// whose cgroups are there to show theirs. p.mu is held. The kernel raises the
// victim's counter before those above, so a count that is the same before and
// after all are read has none of a cgroup that was read.
func (p *oomParent) unclaimed(onKill func(id string)) (n int64, live []*oomWatch, ok bool) {
	for range steadyReads {
		before, ok := p.kills()
		if !ok {
			return 0, nil, false
		}
		live = live[:0]
		for w := range p.below {
			if _, state := w.look(onKill); state != oomGone {
				live = append(live, w)
			}
		}
		after, ok := p.kills()
		if !ok {
			return 0, nil, false
		}
		n = after - p.told.Load()
		if before == after {
			break
		}
	}
	return n, live, true
}

// add puts a watch below, from now on.
func (p *oomParent) add(w *oomWatch, onKill func(id string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.base, _, _ = p.unclaimed(onKill)
	p.below[w] = true
}

// remove forgets a watch and tells whether it was the last one.
func (p *oomParent) remove(w *oomWatch) (last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.below, w)
	return len(p.below) == 0
}

// claim reports a kill in a cgroup that is gone. The same kills are held against
// no cgroup that is still there, but against every other one that is gone: which
// of them had how many cannot be known.
func (p *oomParent) claim(w *oomWatch, onKill func(id string)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, live, ok := p.unclaimed(onKill)
	if !ok || !p.below[w] || n <= w.base || !w.report(onKill) {
		return false
	}
	for _, other := range live {
		other.base = n
	}
	return true
}

// Ended is Check for a cgroup whose last process was killed, and not by us: if
// systemd has removed the cgroup already, the kills that the one above counted
// decide. A kill in another cgroup there that is gone as well can be taken for
// one in this: where a pod has a cgroup of its own, only one of the same pod. A
// cgroup that had told of a kill before is not asked about. On cgroup v1, which
// counts nowhere else, the notices decide (oomNotices).
func (w *OOMWatcher) Ended(id string) bool {
	w.mu.Lock()
	watch := w.watches[id]
	w.mu.Unlock()
	if watch == nil {
		return false
	}
	killed, state := watch.look(w.onKill)
	switch {
	case killed || state != oomGone:
		return killed
	case watch.parent == nil:
		return watch.ranOut(w.onKill)
	}
	return watch.parent.claim(watch, w.onKill)
}
