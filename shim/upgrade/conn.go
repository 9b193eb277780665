// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
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
		case c.through > 0:
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

// ConnState is a frozen connection.
type ConnState struct {
	FD int `json:"fd"`
	// Frames of the client that the server has to be given, in this order.
	Frames [][]byte `json:"frames,omitempty"`
	// Rest is the beginning of a frame that is still coming.
	Rest []byte `json:"rest,omitempty"`
	// Due are the streams of requests that are not among Frames, since the change of
	// hands is what they asked for: whoever goes on answers them.
	Due []uint32 `json:"due,omitempty"`
}

// State of a frozen connection; false if it is closed. Requests of the method due
// that the server has are told apart.
func (c *Conn) State(due string) (ConnState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw, ok := c.Conn.(syscall.Conn)
	if !ok || c.dead {
		return ConnState{}, false
	}
	fd, err := Number(raw)
	if err != nil {
		return ConnState{}, false
	}
	s := ConnState{FD: fd, Rest: slices.Clone(c.rest)}
	// Ascending, for a server takes no number that is lower than an earlier one.
	for _, stream := range slices.Sorted(maps.Keys(c.pending)) {
		if f := c.pending[stream]; f.method == due {
			s.Due = append(s.Due, stream)
		} else {
			s.Frames = append(s.Frames, f.bytes)
		}
	}
	for _, f := range c.queue {
		s.Frames = append(s.Frames, f.bytes)
	}
	return s, true
}

// Resume goes on with a connection as s has it. It is errdefs.ErrInvalidArgument
// when what was read is not what a client sends.
func Resume(conn net.Conn, s ConnState, closed func()) (*Conn, error) {
	c := NewConn(conn, closed)
	c.due = s.Due
	for _, b := range s.Frames {
		if len(b) < frameHeader || parseHeader(b).length <= maxFrame && len(b) != frameHeader+int(parseHeader(b).length) {
			return nil, fmt.Errorf("a frame of %d bytes is not whole: %w", len(b), errdefs.ErrInvalidArgument)
		}
		if h := parseHeader(b); h.length > maxFrame {
			c.queue = append(c.queue, &frame{header: h, bytes: b[:frameHeader]})
			continue
		}
		c.queue = append(c.queue, newFrame(parseHeader(b), b))
	}
	for rest := s.Rest; len(rest) > 0; {
		n := min(cmp.Or(c.want, frameHeader)-len(c.rest), len(rest))
		c.rest = append(c.rest, rest[:n]...)
		rest = rest[n:]
		if len(c.rest) == cmp.Or(c.want, frameHeader) {
			c.advance()
		}
	}
	return c, nil
}

// Answer answers the requests that are due, with an encoded ttrpc.Response. It comes
// before the server gets the connection.
func (c *Conn) Answer(response []byte) error {
	for _, stream := range c.due {
		if _, err := c.Conn.Write(encodeResponse(stream, response)); err != nil {
			return err
		}
	}
	c.due = nil
	return nil
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

// outgoing follows the frames of a server.
type outgoing struct {
	begun []byte // of a header
	last  header
	left  uint32 // bytes of the message to come
}

// between says that no frame has begun without having ended.
func (o *outgoing) between() bool { return len(o.begun) == 0 && o.left == 0 }

// wrote takes what was written, and calls whole for each frame that this ends.
func (o *outgoing) wrote(p []byte, whole func(header)) {
	for len(p) > 0 {
		if o.left > 0 {
			n := min(int(o.left), len(p))
			o.left -= uint32(n)
			p = p[n:]
		} else {
			n := min(frameHeader-len(o.begun), len(p))
			o.begun = append(o.begun, p[:n]...)
			p = p[n:]
			if len(o.begun) < frameHeader {
				return
			}
			o.last = parseHeader(o.begun)
			o.begun, o.left = o.begun[:0], o.last.length
		}
		if o.left == 0 {
			whole(o.last)
		}
	}
}
