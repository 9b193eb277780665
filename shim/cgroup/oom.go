// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// OOMWatcher tells when the kernel's OOM killer took a process of a watched
// cgroup. One of them serves a whole shim: a single epoll instance holds all
// the watches and sits in Go's poller, so that a container costs one
// descriptor and neither a thread, a goroutine nor an inotify instance.
//
// Each rise of the kernel's kill counter is reported once. On cgroup v2 that is
// the hierarchical memory.events: a process in a cgroup that the container
// itself made belongs to the container. On v1 the kernel counts a kill in the
// cgroup of the victim alone.
//
// The callback runs on the watcher's goroutine or on that of a call of Add,
// Check or Ended. It must not wait for a call of the watcher's methods.
type OOMWatcher struct {
	onKill func(id string)
	epoll  *os.File
	raw    rawReader
	done   chan struct{}

	mu      sync.Mutex
	watches map[string]*oomWatch
	tokens  map[int32]*oomWatch
	parents map[string]*oomParent // by directory
	next    int32
}

// rawReader is the part of syscall.RawConn that the watcher needs.
type rawReader interface {
	Read(f func(fd uintptr) (done bool)) error
}

// NewOOMWatcher starts a watcher; Close ends it.
func NewOOMWatcher(onKill func(id string)) (*OOMWatcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch for OOM kills: make an epoll instance: %w", err)
	}
	// Only a descriptor that does not block goes into Go's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch for OOM kills: %w", err)
	}
	w := &OOMWatcher{
		onKill:  onKill,
		epoll:   os.NewFile(uintptr(fd), "oom-epoll"),
		done:    make(chan struct{}),
		watches: map[string]*oomWatch{},
		tokens:  map[int32]*oomWatch{},
		parents: map[string]*oomParent{},
	}
	raw, err := w.epoll.SyscallConn()
	if err != nil {
		_ = w.epoll.Close()
		return nil, fmt.Errorf("watch for OOM kills: %w", err)
	}
	w.raw = raw
	go w.run()
	return w, nil
}

// Add begins to watch a cgroup. Kills before the call are not reported, so it
// is called before the container's first process runs. It fails with
// ErrNotFound when the cgroup is gone or has no memory controller, and with
// ErrAlreadyExists when the id is watched.
func (w *OOMWatcher) Add(id string, c *Cgroup) error {
	source, err := oomSourceOf(c)
	if err != nil {
		return fmt.Errorf("watch %s (%s) for OOM kills: %w", id, c, err)
	}
	return w.add(id, source, parentOf(c))
}

func (w *OOMWatcher) add(id string, source oomSource, parent string) error {
	watch := &oomWatch{id: id, source: source}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.arm(watch); err != nil {
		return err
	}
	// Counted after it was armed: a kill in between is seen either way.
	watch.kills, _ = source.kills()
	if parent != "" {
		watch.parent = w.parent(parent, 0)
		watch.parent.add(watch, w.onKill)
	}
	return nil
}

// arm begins to watch; w.mu is held, so that nobody looks before the watch is
// complete. It closes the source when it fails.
func (w *OOMWatcher) arm(watch *oomWatch) (err error) {
	defer func() {
		if err != nil {
			watch.source.close()
			err = fmt.Errorf("watch %s for OOM kills: %w", watch.id, err)
		}
	}()
	if _, ok := w.watches[watch.id]; ok {
		return errdefs.ErrAlreadyExists
	}
	w.next++
	watch.token = w.next
	if err := w.control(unix.EPOLL_CTL_ADD, watch); err != nil {
		return err
	}
	w.watches[watch.id] = watch
	w.tokens[watch.token] = watch
	return nil
}

// parent returns what is known of a cgroup above; told is what a new one begins
// with. w.mu is held.
func (w *OOMWatcher) parent(dir string, told int64) *oomParent {
	p := w.parents[dir]
	if p == nil {
		p = &oomParent{dir: dir, below: map[*oomWatch]bool{}}
		p.told.Store(told)
		w.parents[dir] = p
	}
	return p
}

// Check looks at the counter now and reports whether there was a new kill.
// Once it has returned, the callback has been called for every kill before the
// call. A caller checks when a process exited, before it tells of the exit and
// before the cgroup is removed: the kernel's notice may come later than that.
// An id that is not watched has no kill.
func (w *OOMWatcher) Check(id string) bool {
	w.mu.Lock()
	watch := w.watches[id]
	w.mu.Unlock()
	if watch == nil {
		return false
	}
	killed, _ := watch.look(w.onKill)
	return killed
}

// Remove stops watching. When it has returned, there is no more callback for
// the id. An id that is not watched is no error.
func (w *OOMWatcher) Remove(id string) {
	w.mu.Lock()
	watch := w.watches[id]
	if watch != nil {
		w.forget(watch)
	}
	w.mu.Unlock()
	if watch != nil {
		watch.close()
	}
}

// forget drops a watch; w.mu is held. The descriptor stays open, so that its
// number is not used anew while the loop may still hold an event of it.
func (w *OOMWatcher) forget(watch *oomWatch) {
	delete(w.watches, watch.id)
	delete(w.tokens, watch.token)
	_ = w.control(unix.EPOLL_CTL_DEL, watch)
	if p := watch.parent; p != nil && p.remove(watch) {
		delete(w.parents, p.dir)
	}
}

// Close ends the watcher and leaves nothing behind. It must not be called from
// the callback.
func (w *OOMWatcher) Close() {
	_ = w.epoll.Close() // ends the loop
	<-w.done
	w.mu.Lock()
	watches := w.watches
	w.watches, w.tokens = map[string]*oomWatch{}, map[int32]*oomWatch{}
	w.mu.Unlock()
	for _, watch := range watches {
		watch.close()
	}
}

func (w *OOMWatcher) control(op int, watch *oomWatch) error {
	if watch.source.fd() < 0 {
		return nil // goneSource
	}
	conn, err := w.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var ctlErr error
	err = conn.Control(func(epfd uintptr) {
		// EPOLLPRI is kernfs's "changed"; an eventfd is simply readable.
		ctlErr = unix.EpollCtl(int(epfd), op, watch.source.fd(),
			&unix.EpollEvent{Events: watch.source.events(), Fd: watch.token})
	})
	return errors.Join(err, ctlErr)
}

// run delivers events until Close.
func (w *OOMWatcher) run() {
	defer close(w.done)
	again := relooks{}
	for {
		_ = w.epoll.SetReadDeadline(again.deadline())
		events, err := w.wait()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed
		}
		now := time.Now()
		for _, ev := range events {
			w.deliver(ev.Fd, true, now, again)
		}
		for _, token := range again.due(now) {
			w.deliver(token, false, now, again)
		}
	}
}

func (w *OOMWatcher) wait() ([]unix.EpollEvent, error) {
	var buf [16]unix.EpollEvent
	n := 0
	err := w.raw.Read(func(fd uintptr) bool {
		// Level-triggered inside, so what does not fit comes next time.
		n, _ = retryInt(func() (int, error) { return unix.EpollWait(int(fd), buf[:], 0) })
		return n > 0
	})
	return buf[:max(n, 0)], err
}

func (w *OOMWatcher) deliver(token int32, event bool, now time.Time, again relooks) {
	w.mu.Lock()
	watch := w.tokens[token]
	w.mu.Unlock()
	if watch == nil {
		delete(again, token)
		return
	}
	killed, state := watch.look(w.onKill)
	switch {
	case state == oomGone:
		// The cgroup was removed: its file would be ready for ever.
		delete(again, token)
		w.mu.Lock()
		_ = w.control(unix.EPOLL_CTL_DEL, watch)
		w.mu.Unlock()
	case killed:
		delete(again, token)
	case event && state == oomEarly:
		again.begin(token, now)
	case !event:
		again.next(token, now)
	}
}
