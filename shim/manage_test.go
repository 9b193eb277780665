// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/control"
)

func TestInfoOfAShim(t *testing.T) {
	before := time.Now().Add(-time.Second)
	b := newBed(t)
	s := b.start()
	c := s.manage()
	defer c.Close()
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.PID != s.pid || info.Namespace != b.ns || info.ID != b.id || info.Version != config.Version {
		t.Errorf("%+v", info)
	}
	if info.Started.Before(before) || info.Started.After(time.Now()) {
		t.Errorf("started at %v", info.Started)
	}
	if len(info.Containers) != 0 {
		t.Errorf("containers before the first: %+v", info.Containers)
	}
	if m := info.Memory; m.Private == 0 || m.RSS < m.Private || m.RSS > 1<<30 {
		t.Errorf("memory %+v", m)
	}
	if info.Goroutines == 0 || info.Threads == 0 || info.OpenFiles < 3 {
		t.Errorf("%d goroutines, %d threads, %d descriptors", info.Goroutines, info.Threads, info.OpenFiles)
	}

	pid := s.run(b)
	if info, err = c.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := control.Container{ID: b.id, Bundle: b.bundle, PID: pid, Status: "running"}
	if len(info.Containers) != 1 || info.Containers[0] != want {
		t.Errorf("containers %+v, want %+v", info.Containers, want)
	}
	if _, err := s.Kill(t.Context(), &task.KillRequest{ID: b.id, Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(t.Context(), &task.WaitRequest{ID: b.id}); err != nil {
		t.Fatal(err)
	}
	if info, err = c.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{control.Reaped: 1, control.ExitsInit: 1, control.ExitsExec: 0, control.ExitsUnknown: 0} {
		if got := info.Totals.Counters[name]; got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	for _, op := range []string{"create", "start"} {
		if got := info.Totals.Calls[op]; got.Count != 1 || got.Failed != 0 || got.Time <= 0 || got.Time > time.Minute {
			t.Errorf("calls of %s: %+v", op, got)
		}
	}
	if len(info.Totals.Timeouts) != 0 || info.Orphans != 0 {
		t.Errorf("timeouts %v, %d orphans", info.Totals.Timeouts, info.Orphans)
	}
	if got := info.Containers[0].Status; got != "stopped" {
		t.Errorf("status %q after the exit", got)
	}
}
