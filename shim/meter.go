// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/reaper"
)

// meter counts what no other part of the shim does. What was counted before an
// upgrade, in all parts, is where it begins.
type meter struct {
	mu     sync.Mutex
	totals control.Totals // guarded by mu
}

// newMeter goes on from totals that server.totals returned before an upgrade;
// a zero value begins anew.
func newMeter(before control.Totals) *meter {
	m := &meter{totals: before.Clone()}
	t := &m.totals
	if t.Counters == nil {
		t.Counters = make(map[string]uint64)
	}
	if t.Calls == nil {
		t.Calls = make(map[string]control.Calls)
	}
	if t.Timeouts == nil {
		t.Timeouts = make(map[string]uint64)
	}
	return m
}

// Called counts a call of an OCI runtime.
func (m *meter) Called(op string, took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	op = strings.TrimLeft(op, "-") // "--version"
	c := m.totals.Calls[op]
	c.Count++
	c.Time += took
	if err != nil {
		c.Failed++
	}
	m.totals.Calls[op] = c
	if errors.Is(err, context.DeadlineExceeded) {
		m.totals.Timeouts["runtime "+op]++
	}
}

// Exited counts a process whose exit is told.
func (m *meter) Exited(exec bool, e reaper.Exit) {
	name := control.ExitsInit
	if exec {
		name = control.ExitsExec
	}
	m.count(name)
	if e.Unknown {
		m.count(control.ExitsUnknown)
	}
}

// OOMKilled counts an OOM kill that is told.
func (m *meter) OOMKilled() { m.count(control.OOMKills) }

// Overdue counts a step that did not end within its deadline.
func (m *meter) Overdue(step string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.totals.Timeouts[step]++
}

// Upgraded counts an attempt to go on as another binary.
func (m *meter) Upgraded(err error) {
	if err != nil {
		m.count(control.UpgradesFailed)
		return
	}
	m.count(control.Upgrades)
}

func (m *meter) count(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.totals.Counters[name]++
}

// snapshot returns a copy of what was counted so far.
func (m *meter) snapshot() control.Totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.totals.Clone()
}
