// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// oomWatch is one watched cgroup.
type oomWatch struct {
	id    string
	token int32
	// parent counts the kills when the cgroup is gone; nil if nothing does.
	parent *oomParent
	// base is what parent had unclaimed when that was none of this cgroup's;
	// guarded by parent.mu.
	base int64

	mu     sync.Mutex // held over the callback, so that Check can wait for it
	source oomSource
	kills  uint64
	told   bool // of any kill
	closed bool
}

type oomState int

const (
	oomSettled oomState = iota
	// oomEarly means that the notice comes before the kill (cgroup v1).
	oomEarly
	oomGone
)

// look reads the counter and reports a rise.
func (o *oomWatch) look(onKill func(id string)) (killed bool, state oomState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, oomGone
	}
	n, state := o.source.kills()
	if state == oomGone || n <= o.kills {
		return false, state
	}
	if o.parent != nil {
		o.parent.told.Add(int64(n - o.kills))
	}
	o.kills, o.told = n, true
	onKill(o.id)
	return true, state
}

// report tells of a kill that the cgroup itself did not show, if it has not
// shown one before.
func (o *oomWatch) report(onKill func(id string)) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told || o.closed {
		return false
	}
	o.told = true
	onKill(o.id)
	return true
}

func (o *oomWatch) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed = true
		o.source.close()
	}
}

// oomSource is what differs between the cgroup versions.
type oomSource interface {
	fd() int
	events() uint32
	// kills acknowledges a notice and reads the counter.
	kills() (uint64, oomState)
	close()
}

func oomSourceOf(c *Cgroup) (oomSource, error) {
	if c == nil {
		return nil, errdefs.ErrNotFound
	}
	if c.mode == Unified {
		return openEvents(c.unified, "memory.events", "oom_kill")
	}
	d, ok := c.controller("memory")
	if !ok || d.top {
		return nil, fmt.Errorf("no memory cgroup: %w", errdefs.ErrNotFound)
	}
	return openOOMControl(d.dir)
}

// eventsFile is a cgroup2 file of counters; the kernel raises the counter
// first and then wakes the pollers.
type eventsFile struct {
	file int
	key  string
}

func openEvents(dir, name, key string) (oomSource, error) {
	fd, err := retryInt(func() (int, error) {
		return unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if gone(err) {
		return nil, fmt.Errorf("no %s: the cgroup is gone or has no memory controller: %w", name, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(dir, name), Err: err}
	}
	return &eventsFile{file: fd, key: key}, nil
}

func (e *eventsFile) fd() int        { return e.file }
func (e *eventsFile) events() uint32 { return unix.EPOLLPRI }
func (e *eventsFile) close()         { _ = unix.Close(e.file) }

func (e *eventsFile) kills() (uint64, oomState) {
	n, err := eventValue(e.file, e.key)
	if err != nil {
		return 0, oomGone
	}
	return n, oomSettled
}

// oomControl is a v1 memory cgroup. Its eventfd is signalled when memory runs
// out, before anything is killed, and also when the cgroup is removed; so the
// counter in memory.oom_control decides.
type oomControl struct {
	eventfd int
	dir     string
	notices oomNotices
}

func openOOMControl(dir string) (oomSource, error) {
	efd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	err = registerEventfd(dir, efd)
	if err == nil {
		return &oomControl{eventfd: efd, dir: dir}, nil
	}
	_ = unix.Close(efd)
	if gone(err) {
		return nil, errdefs.ErrNotFound
	}
	return nil, err
}

// registerEventfd asks for notices. The kernel keeps no hold on the descriptor
// of memory.oom_control, only on the eventfd.
func registerEventfd(dir string, efd int) error {
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return err
	}
	defer control.Close()
	return writeFile(dir, "cgroup.event_control", fmt.Sprintf("%d %d", efd, control.Fd()))
}

func (o *oomControl) fd() int        { return o.eventfd }
func (o *oomControl) events() uint32 { return unix.EPOLLIN }
func (o *oomControl) close()         { _ = unix.Close(o.eventfd) }

func (o *oomControl) kills() (uint64, oomState) {
	var count [8]byte
	if n, _ := retryInt(func() (int, error) { return unix.Read(o.eventfd, count[:]) }); n == len(count) {
		o.notices.signals += binary.NativeEndian.Uint64(count[:])
	}
	f := openFiles(o.dir, make([]byte, 256))
	defer f.close()
	data := f.read("memory.oom_control")
	if data == nil {
		return 0, oomGone
	}
	if valueOf(data, "oom_kill_disable") == 1 {
		return valueOf(data, "oom_kill"), oomSettled
	}
	o.notices.there()
	return valueOf(data, "oom_kill"), oomEarly
}

// relooks are the v1 cgroups whose notice came before the kill: they are looked
// at again for a while. Without such a notice there is no timer.
type relooks map[int32]relook

type relook struct {
	at    time.Time
	delay time.Duration
}

const (
	firstRelook = time.Millisecond
	// lastRelook ends it: the waits until then add up to about a second. A
	// later kill is still found by the next notice or by Check.
	lastRelook = 512 * time.Millisecond
)

func (r relooks) begin(token int32, now time.Time) {
	r[token] = relook{at: now.Add(firstRelook), delay: firstRelook}
}

func (r relooks) next(token int32, now time.Time) {
	delay := 2 * r[token].delay
	if delay > lastRelook {
		delete(r, token)
		return
	}
	r[token] = relook{at: now.Add(delay), delay: delay}
}

// deadline is the zero time when there is nothing to look at.
func (r relooks) deadline() time.Time {
	var first time.Time
	for _, l := range r {
		if first.IsZero() || l.at.Before(first) {
			first = l.at
		}
	}
	return first
}

func (r relooks) due(now time.Time) []int32 {
	var out []int32
	for token, l := range r {
		if !l.at.After(now) {
			out = append(out, token)
		}
	}
	return out
}
