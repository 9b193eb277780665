// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

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

// answerTimeout is for a client to take its answer. It has asked for nothing else
// meanwhile, so that there is room, unless it does not read at all.
const answerTimeout = time.Second

// Answer answers the requests that are due, with an encoded ttrpc.Response. It comes
// before the server gets the connection. A client that does not read must not hold up
// the others: its connection is closed, since half an answer may be on it.
func (c *Conn) Answer(response []byte) (err error) {
	if len(c.due) == 0 {
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := c.Conn.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	for _, stream := range c.due {
		if _, err := c.Conn.Write(encodeResponse(stream, response)); err != nil {
			return err
		}
	}
	c.due = nil
	return c.Conn.SetWriteDeadline(time.Time{})
}
