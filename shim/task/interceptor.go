// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
)

// Intercept is the one place where errors become gRPC statuses, and where a
// panic becomes an error: ttrpc would end the shim, and its pod with it.
func Intercept(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (resp any, err error) {
	defer func() {
		if r := recover(); r != nil {
			log.L.Errorf("panic in %s: %v\n%s", info.FullMethod, r, debug.Stack())
			err = fmt.Errorf("%s: panic: %v: %w", info.FullMethod, r, errdefs.ErrInternal)
		}
		if err != nil {
			resp, err = nil, errgrpc.ToGRPC(err)
		}
	}()
	return method(ctx, unmarshal)
}
