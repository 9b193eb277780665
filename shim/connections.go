// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
)

// connections counts those that clients have open. ttrpc cannot say whether an
// answer is still to be written: while a connection's only request is being
// handled, it counts as idle, and ttrpc.Server.Shutdown closes it under the
// answer. A client that has closed its connection has read what it wanted.
type connections struct {
	mu    sync.Mutex
	open  int           // guarded by mu
	empty chan struct{} // guarded by mu; nil, or closed when open gets 0

	patience time.Duration // guarded by mu
	alone    *time.Timer   // guarded by mu; runs while no connection is open; nil before watch
}

// watch has lonely called each time that no client has been connected for that
// long. There is no timer while one is.
func (c *connections) watch(patience time.Duration, lonely func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone = time.AfterFunc(patience, func() {
		c.mu.Lock()
		alone := c.open == 0
		if alone {
			c.alone.Reset(patience)
		}
		c.mu.Unlock()
		if alone {
			lonely()
		}
	})
	if c.open > 0 {
		c.alone.Stop()
	}
	c.patience = patience
}

// handshake counts the connections that next accepts.
func (c *connections) handshake(next ttrpc.Handshaker) ttrpc.Handshaker {
	return handshaker(func(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
		conn, creds, err := next.Handshake(ctx, conn)
		if err != nil {
			return conn, creds, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open++
		if c.alone != nil {
			c.alone.Stop()
		}
		return &counted{Conn: conn, closed: sync.OnceFunc(c.leave)}, creds, nil
	})
}

func (c *connections) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open--; c.open > 0 {
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

// wait waits until no connection is open, or for ctx.
func (c *connections) wait(ctx context.Context) {
	c.mu.Lock()
	if c.open == 0 {
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

type handshaker func(context.Context, net.Conn) (net.Conn, any, error)

func (h handshaker) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	return h(ctx, conn)
}

// counted is a connection that is open.
type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
