// SPDX-License-Identifier: Apache-2.0

package deaths

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/ledger"
)

// Witnesses hold on to the inits of containers, by their bundles. One costs a
// descriptor; one goroutine notes the times of all deaths.
type Witnesses struct {
	epoll int

	mu       sync.Mutex
	byBundle map[string]*held // guarded by mu
	byMark   map[int32]*held  // guarded by mu
	marks    int32            // the last that was given; guarded by mu
}

// held is one init.
type held struct {
	*ledger.Witness
	// mark is what epoll knows it by. A descriptor would not do: what has just been
	// read of one that was forgotten would be taken for the next of its number.
	mark int32
	died time.Time // zero while it lives
}

// NewWitnesses returns an empty set. Close ends it.
func NewWitnesses() (*Witnesses, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch the containers' processes: %w", os.NewSyscallError("epoll_create1", err))
	}
	w := &Witnesses{epoll: epoll, byBundle: map[string]*held{}, byMark: map[int32]*held{}}
	return w, nil
}

// Run notes the times of deaths until ctx ends.
func (w *Witnesses) Run(ctx context.Context) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		defer unix.Close(wake)
		err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if err != nil {
		log.G(ctx).WithError(err).Error("the times of exits that no shim sees will be those of their discovery")
		return
	}
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()
	events := make([]unix.EpollEvent, 64)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			log.G(ctx).WithError(err).Error("the times of exits that no shim sees will be those of their discovery")
			return
		}
		w.note(events[:max(n, 0)])
	}
}

func (w *Witnesses) note(events []unix.EpollEvent) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		if h := w.byMark[e.Fd]; h != nil && h.died.IsZero() {
			h.died = now
		}
	}
}

// Hold begins to watch the init of a bundle, if it lives and is not watched yet.
func (w *Witnesses) Hold(ctx context.Context, bundle string) {
	birth, err := ledger.ReadBirth(bundle)
	if err != nil || birth.Process == (ledger.Identity{}) {
		return // another shim's, or one that is still to be made
	}
	witness, err := ledger.Watch(birth.Process)
	if errdefs.IsNotFound(err) {
		return
	}
	if err == nil {
		err = w.add(bundle, witness)
	}
	if err != nil {
		log.G(ctx).WithError(err).WithField("bundle", bundle).Warn("if its shim dies first, the container's exit stays unknown")
	}
}

func (w *Witnesses) add(bundle string, witness *ledger.Witness) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.byBundle[bundle]; old != nil {
		if old.Identity() == witness.Identity() {
			return witness.Close()
		}
		w.remove(bundle)
	}
	w.marks++
	h := &held{Witness: witness, mark: w.marks}
	err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, h.FD(), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: h.mark})
	if err != nil {
		return errors.Join(os.NewSyscallError("epoll_ctl", err), witness.Close())
	}
	w.byBundle[bundle], w.byMark[h.mark] = h, h
	return nil
}

// HoldAll watches the inits of all bundles below a directory of namespaces.
func (w *Witnesses) HoldAll(ctx context.Context, dir string) {
	bundles, err := filepath.Glob(filepath.Join(escape(dir), "[^.]*", "[^.]*"))
	if err != nil {
		log.G(ctx).WithError(err).Warn("the containers' processes are not watched")
		return
	}
	for _, bundle := range bundles {
		w.Hold(ctx, bundle)
	}
}

// escape makes a path a pattern that matches only it.
func escape(path string) string {
	var out []byte
	for _, c := range []byte(path) {
		switch c {
		case '*', '?', '[', '\\':
			out = append(out, '\\')
		}
		out = append(out, c)
	}
	return string(out)
}

// Forget ends the watch of a bundle whose container is gone.
func (w *Witnesses) Forget(bundle string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(bundle)
}

// remove is called with mu held.
func (w *Witnesses) remove(bundle string) {
	h := w.byBundle[bundle]
	if h == nil {
		return
	}
	delete(w.byBundle, bundle)
	delete(w.byMark, h.mark)
	_ = h.Close() // and out of epoll: nobody else has it
}

// Len counts the inits that are held on to.
func (w *Witnesses) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byBundle)
}

// Settle puts the exit of a bundle's init on record when it is known here and has
// none. The shim's delete asks for it (ledger.Settle).
func (w *Witnesses) Settle(ctx context.Context, bundle string) error {
	w.mu.Lock()
	h := w.byBundle[bundle]
	var died time.Time
	if h != nil {
		died = h.died
	}
	w.mu.Unlock()
	if h == nil || !h.Dead() {
		return nil
	}
	if _, err := ledger.Read(bundle); !errdefs.IsNotFound(err) {
		return err
	}
	exit, err := h.Exit(ctx)
	if err != nil || exit.Unknown {
		return err
	}
	if !died.IsZero() {
		exit.At = died
	}
	return ledger.Record(bundle, exit)
}

// Close ends all watches. Run must have ended.
func (w *Witnesses) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for bundle := range w.byBundle {
		w.remove(bundle)
	}
	return os.NewSyscallError("close", unix.Close(w.epoll))
}
