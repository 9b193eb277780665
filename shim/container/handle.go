// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

// handle is what one process holds on to: its streams and its pidfd. It takes
// requests for streams that are not there yet and applies them when they are.
type handle struct {
	streams stdio.Streams
	spec    []byte // the OCI process of an exec

	mu         sync.Mutex
	io         *stdio.IO       // guarded by mu; nil before the start and after the delete
	proc       *reaper.Process // guarded by mu; nil before the start
	released   bool            // guarded by mu; streams that come now are too late
	stdinEnded bool            // guarded by mu; asked for before there was an io
	size       *[2]uint16      // guarded by mu; the terminal's, what was asked for last
	giveUp     func()          // guarded by mu; ends a start that is under way
	patience   *time.Timer     // guarded by mu; calls giveUp
	giveUpAt   time.Time       // guarded by mu; when it does, zero for never

	once sync.Once
	exit reaper.Exit   // written before done is closed
	done chan struct{} // closed when the exit has been recorded

	finished atomic.Bool // the output is at its end, or nobody reads the rest
}

func newHandle(streams stdio.Streams, spec []byte) *handle {
	return &handle{streams: streams, spec: spec, done: make(chan struct{})}
}

// announce releases those that wait for the process. A nil handle has none.
func (h *handle) announce(exit reaper.Exit) {
	if h == nil {
		return
	}
	h.once.Do(func() {
		h.exit = exit
		close(h.done)
	})
}

// attach gives the process its streams and applies what was asked for before. It
// is ErrFailedPrecondition once the streams were to be released: an exec's start
// may take so long that its container is deleted meanwhile.
func (h *handle) attach(io *stdio.IO) error {
	h.mu.Lock()
	if h.released {
		h.mu.Unlock()
		return fmt.Errorf("the process's container is deleted: %w", errdefs.ErrFailedPrecondition)
	}
	h.io = io
	ended := h.stdinEnded
	h.mu.Unlock()
	if err := h.fit(); err != nil {
		return err
	}
	if ended {
		return io.CloseStdin()
	}
	return nil
}

// announced tells whether the exit is recorded.
func (h *handle) announced() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

func (h *handle) claim(p *reaper.Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proc = p
}

// attached returns the streams, nil when there are none.
func (h *handle) attached() *stdio.IO {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.io
}

// detach takes the streams away, for whoever closes them, and for good.
func (h *handle) detach() *stdio.IO {
	h.mu.Lock()
	defer h.mu.Unlock()
	io := h.io
	h.io, h.released = nil, true
	return io
}

func (h *handle) resize(width, height uint16) error {
	h.mu.Lock()
	h.size = &[2]uint16{width, height}
	h.mu.Unlock()
	return h.fit()
}

// fit gives the terminal, once it is there, the size that was asked for last: also
// one that is asked for meanwhile, so that of two callers the later one prevails.
func (h *handle) fit() error {
	var done *[2]uint16
	for {
		h.mu.Lock()
		io, size := h.io, h.size
		h.mu.Unlock()
		if io == nil || size == done {
			return nil
		}
		if err := io.Resize(size[0], size[1]); err != nil {
			return err
		}
		done = size
	}
}

func (h *handle) closeStdin() error {
	h.mu.Lock()
	io := h.io
	h.stdinEnded = true
	h.mu.Unlock()
	if io == nil {
		return nil
	}
	return io.CloseStdin()
}

// signal sends a signal to exactly this process. It is ErrFailedPrecondition
// before the process exists and ErrNotFound after its end.
func (h *handle) signal(sig unix.Signal) error {
	h.mu.Lock()
	p := h.proc
	h.mu.Unlock()
	if p == nil {
		return fmt.Errorf("process not created: %w", errdefs.ErrFailedPrecondition)
	}
	return p.Signal(sig)
}

// starting notes how to give up a start, until the returned function is called.
func (h *handle) starting(giveUp func()) (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.giveUp = giveUp
	h.limit()
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.giveUp = nil
		if h.patience != nil {
			h.patience.Stop()
		}
	}
}

// hurry has the start that is under way, or is about to note that it is, given up
// when it takes longer than that.
func (h *handle) hurry(patience time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.giveUpAt = time.Now().Add(patience)
	h.limit()
}

// limit sets the timer once there is both a start and a limit. The caller holds mu.
func (h *handle) limit() {
	if h.giveUp != nil && !h.giveUpAt.IsZero() {
		h.patience = time.AfterFunc(time.Until(h.giveUpAt), h.giveUp)
	}
}
