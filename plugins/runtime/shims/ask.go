// SPDX-License-Identifier: Apache-2.0

package shims

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/control"
)

// Status says how a shim answered.
type Status string

const (
	// OK has told about itself.
	OK Status = "ok"
	// Stuck is connected to by the kernel and does not answer.
	Stuck Status = "stuck"
	// Foreign is another project's shim, or an older one of ours.
	Foreign Status = "foreign"
	// Gone has no process that listens; its daemon cleans up after it.
	Gone Status = "gone"
	// Failed has answered with an error.
	Failed Status = "failed"
)

// Report is what is known of one shim. Info is valid when Status is OK; then Err
// is nil.
type Report struct {
	Shim
	Status Status
	Info   control.Info
	Err    error
}

// Ask asks all shims at once and returns a report for each, in their order,
// within patience.
func Ask(ctx context.Context, all []Shim, patience time.Duration) []Report {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	reports := make([]Report, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { reports[i] = ask(ctx, s) })
	}
	wg.Wait()
	return reports
}

func ask(ctx context.Context, s Shim) Report {
	info, err := info(ctx, s.Address)
	return Report{Shim: s, Status: statusOf(err), Info: info, Err: err}
}

func info(ctx context.Context, address string) (control.Info, error) {
	c, err := control.Dial(ctx, address)
	if err != nil {
		return control.Info{}, err
	}
	defer c.Close()
	return c.Info(ctx)
}

func statusOf(err error) Status {
	switch {
	case err == nil:
		return OK
	case errdefs.IsNotImplemented(err):
		return Foreign
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Stuck
	case errdefs.IsUnavailable(err):
		return Gone
	}
	return Failed
}
