// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/reaper"
)

func TestMeter(t *testing.T) {
	m := newMeter(control.Totals{})
	m.Called("create", 2*time.Second, nil)
	m.Called("create", time.Second, errors.New("no such image"))
	m.Called("--version", time.Second, fmt.Errorf("OCI runtime --version: %w", context.DeadlineExceeded))
	m.Exited(false, reaper.Exit{})
	m.Exited(true, reaper.Exit{Unknown: true})
	m.OOMKilled()
	m.Overdue("mount")
	m.Upgraded(nil)
	m.Upgraded(errors.New("busy"))
	want := control.Totals{
		Counters: map[string]uint64{
			control.ExitsInit: 1, control.ExitsExec: 1, control.ExitsUnknown: 1, control.OOMKills: 1,
			control.Upgrades: 1, control.UpgradesFailed: 1,
		},
		Calls: map[string]control.Calls{
			"create":  {Count: 2, Failed: 1, Time: 3 * time.Second},
			"version": {Count: 1, Failed: 1, Time: time.Second},
		},
		Timeouts: map[string]uint64{"runtime version": 1, "mount": 1},
	}
	before := m.snapshot()
	if diff := cmp.Diff(want, before); diff != "" {
		t.Error(diff)
	}

	// The next image goes on counting, and leaves alone what it was given.
	next := newMeter(before)
	next.OOMKilled()
	if got := next.snapshot().Counters[control.OOMKills]; got != 2 {
		t.Errorf("%d OOM kills after an upgrade, want 2", got)
	}
	if diff := cmp.Diff(want, before); diff != "" {
		t.Error(diff)
	}
}
