// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"time"
)

// result of a bounded step.
type result[T any] struct {
	value T
	err   error
}

// bounded runs a step that may wait for a file system, or for another program, that
// never answers. Overdue, the step is left behind with its goroutine, and the error
// names it and the time that it was waited for; late gets what comes of it after
// all, if it succeeds. The step must use nothing that the caller goes on to use.
func bounded[T any](c *Container, ctx context.Context, limit time.Duration, step string, do func(context.Context) (T, error), late func(T)) (T, error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan result[T], 1)
	go func() {
		var r result[T]
		r.err = guard(func() (err error) {
			r.value, err = do(ctx)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	// Most steps look at ctx, and tell more of what they were waiting for.
	timer := time.NewTimer(stepGrace)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
	}
	c.set.env.Meter.Overdue(step)
	go func() {
		if r := <-done; r.err == nil && late != nil {
			late(r.value)
		}
	}()
	var none T
	return none, fmt.Errorf("%s: not done after %s: %w", step, time.Since(begun).Round(time.Millisecond), ctx.Err())
}

// stepGrace is how long a step that looks at its context has to return.
const stepGrace = 100 * time.Millisecond

// within is bounded for a step that has no result, whether its client waits or not.
func (c *Container) within(limit time.Duration, step string, do func() error) error {
	_, err := bounded(c, context.Background(), limit, step, func(context.Context) (struct{}, error) { return struct{}{}, do() }, nil)
	return err
}
