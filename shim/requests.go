// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
)

// requests are those that are being handled, also of clients that have hung up.
type requests struct {
	mu      sync.Mutex
	running map[string]int // by /service/method; guarded by mu
	changed chan struct{}  // guarded by mu; closed when one ends; nil if nobody waits
}

// intercept counts what next intercepts.
func (r *requests) intercept(next ttrpc.UnaryServerInterceptor) ttrpc.UnaryServerInterceptor {
	return func(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
		r.begin(info.FullMethod)
		defer r.end(info.FullMethod)
		return next(ctx, unmarshal, info, method)
	}
}

func (r *requests) begin(method string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running = make(map[string]int)
	}
	r.running[method]++
}

func (r *requests) end(method string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[method]--; r.running[method] == 0 {
		delete(r.running, method)
	}
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// settle waits until only such are running as may wait. Otherwise it is
// errdefs.ErrUnavailable and names one.
func (r *requests) settle(ctx context.Context, mayWait func(method string) bool) error {
	for {
		method, changed := r.busy(mayWait)
		if method == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("a request %s is under way: %w: %w", method, context.Cause(ctx), errdefs.ErrUnavailable)
		}
	}
}

func (r *requests) busy(mayWait func(method string) bool) (string, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	for method := range r.running {
		if !mayWait(method) {
			return method, r.changed
		}
	}
	return "", nil
}
