// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"

	"github.com/quoin-io/quoin/shim/upgrade"
)

// connections are those that clients have open, and the listener that the server
// gets them from. They can be brought to rest, for another image to go on with.
//
// ttrpc cannot say whether an answer is still to be written: while a connection's
// only request is being handled, it counts as idle, and ttrpc.Server.Shutdown
// closes it under the answer. A client that has closed its connection has read what
// it wanted.
type connections struct {
	listener *net.UnixListener
	admit    ttrpc.Handshaker

	accepting sync.Mutex // held from the accept of a connection until it is in open

	mu      sync.Mutex
	open    []*upgrade.Conn // guarded by mu; in the order of their coming
	resumed []*upgrade.Conn // guarded by mu; of open, those that the server has still to get
	held    chan struct{}   // guarded by mu; closed when connections are accepted again; nil while they are
	empty   chan struct{}   // guarded by mu; nil, or closed when open gets empty

	patience time.Duration // guarded by mu; how long to be alone before lonely is called
	alone    *time.Timer   // guarded by mu; runs while no connection is open; nil before watch
}

func newConnections(l *net.UnixListener, admit ttrpc.Handshaker) *connections {
	return &connections{listener: l, admit: admit}
}

// listenerBy is the listener that f is, with a descriptor of its own. What is none, or
// not of a Unix socket, is errdefs.ErrInvalidArgument.
func listenerBy(f *os.File) (*net.UnixListener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no listening socket: %w: %w", f.Fd(), err, errdefs.ErrInvalidArgument)
	}
	if l, ok := l.(*net.UnixListener); ok {
		return l, nil
	}
	_ = l.Close() // nobody has connected
	return nil, fmt.Errorf("descriptor %d listens at %s, not at a Unix socket: %w", f.Fd(), l.Addr(), errdefs.ErrInvalidArgument)
}

// Accept returns the next connection that is admitted. Those that are not are
// closed.
func (c *connections) Accept() (net.Conn, error) {
	for {
		c.mu.Lock()
		held := c.held
		if held == nil && len(c.resumed) > 0 {
			conn := c.resumed[0]
			c.resumed = c.resumed[1:]
			c.mu.Unlock()
			return conn, nil
		}
		c.mu.Unlock()
		if held != nil {
			<-held
			continue
		}
		conn, err := c.accept()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // hold
		case errdefs.IsPermissionDenied(err):
			log.L.WithError(err).Warn("a client is turned away")
		default:
			return conn, err
		}
	}
}

func (c *connections) accept() (net.Conn, error) {
	c.accepting.Lock()
	defer c.accepting.Unlock()
	raw, err := c.listener.Accept()
	if err != nil {
		return nil, err
	}
	admitted, _, err := c.admit.Handshake(context.Background(), raw)
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrPermissionDenied)
	}
	return c.enter(func(closed func()) (*upgrade.Conn, error) { return upgrade.NewConn(admitted, closed), nil })
}

// enter puts a connection among the open ones, until it is closed.
func (c *connections) enter(wrap func(closed func()) (*upgrade.Conn, error)) (*upgrade.Conn, error) {
	var conn *upgrade.Conn
	conn, err := wrap(func() { c.leave(conn) })
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, conn)
	if c.alone != nil {
		c.alone.Stop()
	}
	if c.held != nil {
		conn.Hold()
	}
	return conn, nil
}

func (c *connections) leave(conn *upgrade.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(c.open, func(o *upgrade.Conn) bool { return o == conn })
	if len(c.open) > 0 {
		return
	}
	if c.alone != nil {
		c.alone.Reset(c.patience)
	}
	if c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
}

// Close closes the listener.
func (c *connections) Close() error { return c.listener.Close() }

// Addr is the listener's.
func (c *connections) Addr() net.Addr { return c.listener.Addr() }

// watch has lonely called each time that no client has been connected for that
// long. There is no timer while one is.
func (c *connections) watch(patience time.Duration, lonely func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone = time.AfterFunc(patience, func() {
		c.mu.Lock()
		alone := len(c.open) == 0
		if alone {
			c.alone.Reset(c.patience)
		}
		c.mu.Unlock()
		if alone {
			lonely()
		}
	})
	if len(c.open) > 0 {
		c.alone.Stop()
	}
	c.patience = patience
}

// hurry has lonely called after another time than watch said.
func (c *connections) hurry(patience time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience = patience
	if c.alone != nil && len(c.open) == 0 {
		c.alone.Reset(patience)
	}
}

// wait waits until no connection is open, or for ctx.
func (c *connections) wait(ctx context.Context) {
	c.mu.Lock()
	if len(c.open) == 0 {
		c.mu.Unlock()
		return
	}
	if c.empty == nil {
		c.empty = make(chan struct{})
	}
	empty := c.empty
	c.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
}

// past is a deadline that ends an Accept that waits.
var past = time.Unix(1, 0)

// hold accepts no connection and hands no request to the server, until release. Who
// connects meanwhile waits in the listener's queue.
func (c *connections) hold() {
	c.mu.Lock()
	c.held = make(chan struct{})
	c.mu.Unlock()
	_ = c.listener.SetDeadline(past) // fails when it is closed, and then nobody comes
	c.accepting.Lock()               // one that was accepted is among the open ones by then
	defer c.accepting.Unlock()
	for _, conn := range c.all() {
		conn.Hold()
	}
}

// release undoes hold and freeze.
func (c *connections) release() {
	_ = c.listener.SetDeadline(time.Time{}) // as in hold
	c.mu.Lock()
	if c.held != nil {
		close(c.held)
		c.held = nil
	}
	open := slices.Clone(c.open)
	c.mu.Unlock()
	for _, conn := range open {
		conn.Thaw()
	}
}

func (c *connections) all() []*upgrade.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.open)
}

// settle waits until what the server has is answered, but for what may wait.
func (c *connections) settle(ctx context.Context, mayWait func(method string) bool) error {
	for _, conn := range c.all() {
		if err := conn.Settle(ctx, mayWait); err != nil {
			return err
		}
	}
	return nil
}

// freeze returns the connections as another image can go on with them. Requests of
// the method due are answered by the change itself.
func (c *connections) freeze(ctx context.Context, due string) ([]upgrade.ConnState, error) {
	var all []upgrade.ConnState
	for _, conn := range c.all() {
		if err := conn.Freeze(ctx); err != nil {
			return nil, err
		}
		if s, ok := conn.State(due); ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// resume goes on with connections of another image. The server gets them from
// Accept.
func (c *connections) resume(all []upgrade.ConnState, file func(fd int) (*os.File, error)) error {
	for _, s := range all {
		f, err := file(s.FD)
		if err != nil {
			return fmt.Errorf("resume a connection: %w", err)
		}
		raw, err := net.FileConn(f)
		_ = f.Close() // raw has a duplicate
		if err != nil {
			return fmt.Errorf("resume a connection: descriptor %d: %w: %w", s.FD, err, errdefs.ErrInvalidArgument)
		}
		conn, err := c.enter(func(closed func()) (*upgrade.Conn, error) { return upgrade.Resume(raw, s, closed) })
		if err != nil {
			_ = raw.Close()
			return fmt.Errorf("resume a connection: %w", err)
		}
		c.mu.Lock()
		c.resumed = append(c.resumed, conn)
		c.mu.Unlock()
	}
	return nil
}

// descriptor of the listener.
func (c *connections) descriptor() (int, error) { return upgrade.Number(c.listener) }

// answer answers the requests that the change of images itself answers.
func (c *connections) answer(response []byte) error {
	var errs []error
	for _, conn := range c.all() {
		errs = append(errs, conn.Answer(response))
	}
	return errors.Join(errs...)
}
