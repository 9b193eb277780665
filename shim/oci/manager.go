// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"time"
)

// slow is how long a call that asks systemd may take before anybody wonders.
const slow = 5 * time.Second

// silence is why a call was given up that waits for systemd. It is of class
// context.DeadlineExceeded.
type silence struct{ err error }

func (s silence) Error() string { return s.err.Error() }
func (s silence) Unwrap() []error {
	return []error{s.err, context.DeadlineExceeded}
}

// watchManager returns a context for a call that also ends when systemd gives no
// sign of life, and what to do when the call is over. A call that is over in time
// costs one timer, and one that does not ask systemd nothing.
func (r *Runtime) watchManager(ctx context.Context) (context.Context, func()) {
	if !r.cfg.SystemdCgroup || r.cfg.Manager == nil {
		return ctx, func() {}
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	late := time.AfterFunc(min(slow, r.cfg.Deadlines.Bus), func() {
		if err := r.awaitSilence(ctx); err != nil {
			giveUp(silence{err})
		}
	})
	return ctx, func() {
		late.Stop()
		giveUp(nil)
	}
}

// awaitSilence asks until nobody answers, or ctx ends: then it returns nil.
func (r *Runtime) awaitSilence(ctx context.Context) error {
	for {
		err := r.cfg.Manager(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		again := time.NewTimer(r.cfg.Deadlines.Bus)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil
		}
	}
}
