// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	serviceName   = "quoin.shim.v1.Control"
	infoMethod    = "Info"
	upgradeMethod = "Upgrade"

	// UpgradeMethod is how ttrpc's interceptors and frames name Upgrade.
	UpgradeMethod = "/" + serviceName + "/" + upgradeMethod
)

// Handler is what serves. Its errors keep their errdefs class on the way to the
// client if the server's interceptor converts them (as shim/task's does).
type Handler interface {
	// Info tells about the shim.
	Info(context.Context) (Info, error)
	// Upgrade makes the shim go on as another binary. It is
	// errdefs.ErrNotImplemented for a binary that does not know the format of the
	// shim's state.
	Upgrade(context.Context, UpgradeRequest) (UpgradeResponse, error)
}

// Register adds the service to a server.
func Register(server *ttrpc.Server, h Handler) {
	server.RegisterService(serviceName, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		infoMethod:    method(func(ctx context.Context, _ empty) (Info, error) { return h.Info(ctx) }),
		upgradeMethod: method(h.Upgrade),
	}})
}

// Encode makes the payload of a response to Upgrade, for whoever answers without a
// Handler.
func (r UpgradeResponse) Encode() ([]byte, error) {
	a, err := encode(r)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(a)
}

// method adapts a typed handler.
func method[Request, Response message](handle func(context.Context, Request) (Response, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		var a anypb.Any
		if err := unmarshal(&a); err != nil {
			return nil, err
		}
		request, err := decode[Request](&a)
		if err != nil {
			return nil, err
		}
		response, err := handle(ctx, request)
		if err != nil {
			return nil, err
		}
		return encode(response)
	}
}
