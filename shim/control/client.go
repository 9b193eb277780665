// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// Client talks to one shim over a connection of its own. It is safe for
// concurrent use. Close ends it.
type Client struct {
	address string
	conn    net.Conn
	ttrpc   *ttrpc.Client
}

// Dial connects to the shim at an address as bundles name it: unix:// and an
// absolute path. Anything else is errdefs.ErrInvalidArgument; that nobody listens
// there is errdefs.ErrUnavailable. A shim that is stopped is connected to all
// the same, and does not answer.
func Dial(ctx context.Context, address string) (*Client, error) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok || !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("shim address %q is not unix:// and an absolute path: %w", address, errdefs.ErrInvalidArgument)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the shim at %s: %w: %w", address, err, errdefs.ErrUnavailable)
	}
	return &Client{address: address, conn: conn, ttrpc: ttrpc.NewClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.ttrpc.Close() }

// Info asks the shim about itself. It is errdefs.ErrNotImplemented for a shim
// that is not Quoin's, or older than the service, and ctx's error for one that
// does not answer before ctx ends.
//
// The class is what errgrpc makes of the status by which ttrpc's server answers
// for a service or a method that it does not know.
func (c *Client) Info(ctx context.Context) (Info, error) {
	return call[empty, Info](ctx, c, infoMethod, empty{})
}

// Upgrade asks the shim to go on as another binary. ctx should leave more time
// than the request's deadline.
//
// Errors: errdefs.ErrInvalidArgument for a path that will not do,
// errdefs.ErrFailedPrecondition while another upgrade is under way,
// errdefs.ErrUnavailable when the shim did not come to rest,
// errdefs.ErrNotImplemented for a shim that does not know the service, and for a
// binary with which it has no format of state in common. After any of them the
// shim goes on as before.
func (c *Client) Upgrade(ctx context.Context, r UpgradeRequest) (UpgradeResponse, error) {
	return call[UpgradeRequest, UpgradeResponse](ctx, c, upgradeMethod, r)
}

func call[Request, Response message](ctx context.Context, c *Client, name string, request Request) (response Response, err error) {
	in, err := encode(request)
	if err != nil {
		return response, err
	}
	// ttrpc writes without a deadline: a shim that does not read must not hold us.
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var out anypb.Any
	if err := c.invoke(ctx, name, in, &out); err != nil {
		return response, fmt.Errorf("%s of the shim at %s: %w", name, c.address, err)
	}
	response, err = decode[Response](&out)
	if err != nil {
		return response, fmt.Errorf("%s of the shim at %s: %w", name, c.address, err)
	}
	return response, nil
}

// invoke makes one call and gives its error an errdefs class.
func (c *Client) invoke(ctx context.Context, name string, in, out *anypb.Any) error {
	err := c.ttrpc.Call(ctx, serviceName, name, in, out)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("no answer: %w", ctx.Err()) // whatever the connection said of it
	case errors.Is(err, ttrpc.ErrClosed):
		return fmt.Errorf("the shim hung up: %w: %w", err, errdefs.ErrUnavailable)
	}
	return errgrpc.ToNative(err)
}
