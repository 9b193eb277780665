// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A daemon that has held on to a container's init since its birth knows how it ended
// even when its shim was gone by then. quoind does; it serves this on its ttrpc
// socket, beside containerd's services, of which others know nothing.
const (
	settleService = "quoin.daemon.v1.Ledger"
	settleMethod  = "Settle"
)

// Settle asks the daemon at address to put the exit of a bundle's init on record, if
// it knows that exit and there is no record. A daemon that has no such service, as
// stock containerd, answers with ttrpc's Unimplemented: after errgrpc.ToNative that is
// errdefs.ErrNotImplemented, by which a caller tells it from one that failed.
func Settle(ctx context.Context, address, bundle string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", strings.TrimPrefix(address, "unix://"))
	if err != nil {
		return fmt.Errorf("ask the daemon how a container ended: %w", err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	if err := client.Call(ctx, settleService, settleMethod, &anypb.Any{Value: []byte(bundle)}, &emptypb.Empty{}); err != nil {
		return fmt.Errorf("ask the daemon how a container ended: %w", err)
	}
	return nil
}

// RegisterSettler serves Settle.
func RegisterSettler(server *ttrpc.Server, settle func(ctx context.Context, bundle string) error) {
	server.RegisterService(settleService, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		settleMethod: func(ctx context.Context, unmarshal func(any) error) (any, error) {
			var request anypb.Any
			if err := unmarshal(&request); err != nil {
				return nil, err
			}
			return &emptypb.Empty{}, settle(ctx, string(request.Value))
		},
	}})
}
