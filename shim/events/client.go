// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// socketPath is the path in the address of containerd's ttrpc socket, which
// comes bare (TTRPC_ADDRESS) or as a URL.
func socketPath(address string) (string, error) {
	path := strings.TrimPrefix(address, "unix://")
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("events address %q is not the absolute path of a socket: %w", address, errdefs.ErrInvalidArgument)
	}
	return path, nil
}

// client is a connection to the events service, made when it is first needed.
// It belongs to one goroutine.
type client struct {
	path    string
	timeout time.Duration // of connecting

	conn  net.Conn
	ttrpc *ttrpc.Client
}

// forward sends one event and returns nil once the daemon has acknowledged it.
// It waits for that as long as the connection lives: a daemon that is stopped has
// the event, or will have it, and one that it got twice could not be told from two.
// After an error the connection is closed. The bool says whether the error met a
// connection that an earlier event had left open.
func (c *client) forward(ctx context.Context, namespace string, it item) (reused bool, err error) {
	reused = c.ttrpc != nil
	if !reused {
		if err := c.connect(ctx); err != nil {
			return false, err
		}
	}
	// ttrpc writes without a deadline: one that does not read must not hold us
	// when ctx ends.
	conn := c.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	_, err = eventsapi.NewTTRPCEventsClient(c.ttrpc).Forward(ctx, &eventsapi.ForwardRequest{
		Envelope: it.envelope(namespace),
	})
	if !stop() || err != nil {
		c.close()
	}
	if err != nil {
		return reused, fmt.Errorf("forward: %w", err)
	}
	return reused, nil
}

func (c *client) connect(ctx context.Context) error {
	d := net.Dialer{Timeout: c.timeout}
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.conn, c.ttrpc = conn, ttrpc.NewClient(conn)
	return nil
}

// close ends the connection and its goroutines.
func (c *client) close() {
	if c.ttrpc == nil {
		return
	}
	_ = c.ttrpc.Close() // it returns no error
	c.conn, c.ttrpc = nil, nil
}

// hopeless says that the daemon has understood the event and will never take it.
func hopeless(err error) bool {
	var s interface{ GRPCStatus() *status.Status }
	return errors.As(err, &s) && s.GRPCStatus().Code() == codes.InvalidArgument
}
