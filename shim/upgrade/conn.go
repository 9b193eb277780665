// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Conn is the server's end of a ttrpc connection that another image of the
// process can go on with, unnoticed by the client. It knows where frames begin
// and end, hands them to the server one by one, and remembers each request until
// its response has been written whole. The image that goes on hands the remembered
// ones to its own server, which answers them.
//
// To change hands it is first held (no further frame goes to the server), settled
// (what the server has is answered, but for what may wait), and frozen (no
// response begins to be written). Thaw undoes all of it.
type Conn struct {
	net.Conn
	closed func()

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed at the next change, nil if nobody waits
	gate    gate
	dead    bool
	queue   []*frame // read, and not handed over whole
	handed  int      // of the first one of queue, bytes
	pending map[uint32]*frame
	rest    []byte // the beginning of the next frame
	want    int    // length of that frame; 0 while its header is not whole
	through int    // bytes of an oversized message that are handed over unseen
	reading bool   // rest and want belong to the reader meanwhile
	writing bool
	out     outgoing
	due     []uint32 // streams that Answer answers
}

// gate is what is let through.
type gate uint8

const (
	open   gate = iota
	held        // responses
	frozen      // the rest of a response that has begun
)

// past is a deadline that wakes whoever reads.
var past = time.Unix(1, 0)

// NewConn wraps a connection. closed is called once when it is closed; it may be
// nil.
func NewConn(conn net.Conn, closed func()) *Conn {
	c := &Conn{Conn: conn, closed: closed, pending: make(map[uint32]*frame)}
	if closed == nil {
		c.closed = func() {}
	}
	return c
}

// Read hands over a part of the next frame.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.dead:
			return 0, net.ErrClosed
		case c.through > 0 && c.gate == open:
			return c.readThrough(p)
		case len(c.queue) > 0 && (c.gate == open || c.handed > 0):
			return c.hand(p), nil
		case c.gate != open:
			c.wait(context.Background())
		default:
			if err := c.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// hand copies out of the first frame in the queue.
func (c *Conn) hand(p []byte) int {
	f := c.queue[0]
	if c.handed == 0 && f.kind == typeRequest {
		c.pending[f.stream] = f
	}
	n := copy(p, f.bytes[c.handed:])
	if c.handed += n; c.handed == len(f.bytes) {
		if f.oversized() {
			c.through = int(f.length)
		}
		c.queue, c.handed = c.queue[1:], 0
		c.notify()
	}
	return n
}

func (f *frame) oversized() bool { return f.length > maxFrame }

// readThrough hands over what is not looked at.
func (c *Conn) readThrough(p []byte) (int, error) {
	limit := min(len(p), c.through)
	n, err := c.readRaw(p[:limit])
	c.through -= n
	c.notify()
	return n, err
}

// fill reads on, until the gate is shut or a whole frame is in the queue.
func (c *Conn) fill() error {
	end := cmp.Or(c.want, frameHeader)
	c.rest = slices.Grow(c.rest, end-len(c.rest))
	n, err := c.readRaw(c.rest[len(c.rest):end])
	c.rest = c.rest[:len(c.rest)+n]
	if len(c.rest) == end {
		c.advance()
	}
	return err
}

// advance goes on from a whole header, or from a whole frame.
func (c *Conn) advance() {
	h := parseHeader(c.rest)
	switch {
	case h.length > maxFrame:
		c.queue = append(c.queue, &frame{header: h, bytes: c.rest})
	case c.want == 0 && h.length > 0:
		c.want = frameHeader + int(h.length)
		c.rest = append(make([]byte, 0, c.want), c.rest...)
		return
	default:
		c.queue = append(c.queue, newFrame(h, c.rest))
	}
	c.rest, c.want = nil, 0
}

// readRaw reads without the lock. A deadline that shut the gate is no error.
func (c *Conn) readRaw(p []byte) (int, error) {
	c.reading = true
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.reading = false
	c.notify()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

// Write writes for the server. Between two frames it waits while the connection
// is frozen.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.gate == frozen && c.out.between() && !c.dead {
		c.wait(context.Background())
	}
	if c.dead {
		return 0, net.ErrClosed
	}
	c.writing = true
	c.mu.Unlock()
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	c.writing = false
	c.out.wrote(p[:n], func(h header) {
		if h.answers() {
			delete(c.pending, h.stream)
		}
	})
	c.notify()
	return n, err
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	first := !c.dead
	c.dead = true
	c.notify()
	c.mu.Unlock()
	err := c.Conn.Close()
	if first {
		c.closed()
	}
	return err
}

// Hold lets no further frame go to the server, but the rest of one that has begun
// to. It does not wait.
func (c *Conn) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = held
	_ = c.Conn.SetReadDeadline(past) // fails when closed, and then there is nothing to hold
	c.notify()
}

// Settle waits until every request that the server has is answered, but for those
// that may wait, by their /service/method. Otherwise it is errdefs.ErrUnavailable and
// names what is not.
func (c *Conn) Settle(ctx context.Context, mayWait func(method string) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		busy := c.busy(mayWait)
		if busy == "" || c.dead {
			return nil
		}
		if !c.wait(ctx) {
			return fmt.Errorf("%s: %w: %w", busy, context.Cause(ctx), errdefs.ErrUnavailable)
		}
	}
}

// busy names something that keeps the connection from being settled.
func (c *Conn) busy(mayWait func(method string) bool) string {
	for _, f := range c.pending {
		if f.oversized() || !mayWait(f.method) {
			return fmt.Sprintf("a request %s is not answered", f.method)
		}
	}
	if c.handed > 0 || c.through > 0 || c.reading {
		return "a request is being read"
	}
	return ""
}

// Freeze lets no response begin to be written, and waits for the end of one that
// has begun.
func (c *Conn) Freeze(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = frozen
	for (c.writing || !c.out.between()) && !c.dead {
		if !c.wait(ctx) {
			return fmt.Errorf("a client does not read its answer: %w: %w", context.Cause(ctx), errdefs.ErrUnavailable)
		}
	}
	return nil
}

// Thaw goes on as before Hold.
func (c *Conn) Thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = open
	_ = c.Conn.SetReadDeadline(time.Time{}) // as in Hold
	c.notify()
}

// notify wakes those who wait; c.mu is held.
func (c *Conn) notify() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// wait waits for a change, without the lock; false when ctx has ended first.
func (c *Conn) wait(ctx context.Context) bool {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	changed := c.changed
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}
