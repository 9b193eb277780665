// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// asked is a manager that gives signs of life so many times.
type asked struct {
	alive int64
	times atomic.Int64
}

func (a *asked) ask(context.Context) error {
	if a.times.Add(1) > a.alive {
		return errors.New("the bus is silent")
	}
	return nil
}

// A call that waits for systemd ends, and says for whom it waited, when systemd is
// silent; not before, and not when it does not ask systemd.
func TestSilentManager(t *testing.T) {
	for name, tc := range map[string]struct {
		systemd bool
		alive   int64
		says    string
		asked   int64
	}{
		"silent":      {systemd: true, says: "OCI runtime delete was given up: the bus is silent", asked: 1},
		"silent soon": {systemd: true, alive: 2, says: "OCI runtime delete was given up: the bus is silent", asked: 3},
		"cgroupfs":    {says: "OCI runtime delete did not finish within 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newFake(t, "true")
			f.Set("delete", ocitest.Failpoint{Hang: true})
			manager := &asked{alive: tc.alive}
			r.cfg.SystemdCgroup, r.cfg.Manager = tc.systemd, manager.ask
			r.cfg.Deadlines.Bus = 50 * time.Millisecond
			r.cfg.Deadlines.Delete = time.Minute
			if !tc.systemd {
				r.cfg.Deadlines.Delete = time.Second
			}
			wantError(t, r.Delete(t.Context(), "c", true), func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }, tc.says)
			if n := manager.times.Load(); n != tc.asked {
				t.Errorf("asked %d times, want %d", n, tc.asked)
			}
		})
	}
}

// The question ends with the call, and a quick call asks nothing.
func TestManagerIsLeftAlone(t *testing.T) {
	f, r := newFake(t, "true")
	gate := f.Gate("delete")
	reached, ended := make(chan struct{}), make(chan struct{})
	r.cfg.SystemdCgroup, r.cfg.Deadlines.Bus = true, time.Millisecond
	r.cfg.Manager = func(ctx context.Context) error {
		close(reached)
		<-ctx.Done()
		close(ended)
		return errors.New("too late")
	}
	result := make(chan error, 1)
	go func() { result <- r.Delete(t.Context(), "c", true) }()
	<-gate.Reached()
	<-reached
	gate.Open()
	must(t, <-result)
	<-ended

	r.cfg.Deadlines.Bus = time.Hour
	r.cfg.Manager = func(context.Context) error { t.Error("asked"); return nil }
	must(t, r.Delete(t.Context(), "c", true))
}
