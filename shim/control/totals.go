// SPDX-License-Identifier: Apache-2.0

package control

import (
	"maps"
	"time"
)

// Names of the counters in Totals.Counters. A shim of another version may lack
// some and have others.
const (
	// ExitsInit, ExitsExec and ExitsUnknown count ended processes: containers'
	// first ones, execs, and among both those whose status nobody can tell.
	ExitsInit    = "exits_init"
	ExitsExec    = "exits_exec"
	ExitsUnknown = "exits_unknown"
	// OOMKills count those that were told of.
	OOMKills = "oom_kills"
	// Reaped counts containers' processes that were waited for; StrangersReaped
	// the adopted orphans that were.
	Reaped          = "reaped"
	StrangersReaped = "strangers_reaped"
	// EventsDelivered count what the daemon acknowledged, EventsResent the attempts
	// after a first, EventsDropped what will never arrive.
	EventsDelivered = "events_delivered"
	EventsResent    = "events_resent"
	EventsDropped   = "events_dropped"
	// Upgrades count images that were taken over from, UpgradesFailed the
	// attempts after which the old image went on.
	Upgrades       = "upgrades"
	UpgradesFailed = "upgrades_failed"
)

// Totals are the counts of a shim since it was started, in-place upgrades
// included. The zero value counts nothing.
type Totals struct {
	// Counters by name.
	Counters map[string]uint64 `json:"counters,omitempty"`
	// Calls of OCI runtimes, by operation.
	Calls map[string]Calls `json:"calls,omitempty"`
	// Timeouts by the step that did not end within its deadline.
	Timeouts map[string]uint64 `json:"timeouts,omitempty"`
}

// Calls are those of one operation.
type Calls struct {
	Count  uint64 `json:"count"`
	Failed uint64 `json:"failed,omitempty"`
	// Time that they took together, in nanoseconds.
	Time time.Duration `json:"time"`
}

// Clone returns a copy that shares nothing with t.
func (t Totals) Clone() Totals {
	return Totals{Counters: maps.Clone(t.Counters), Calls: maps.Clone(t.Calls), Timeouts: maps.Clone(t.Timeouts)}
}

// Add adds other to t.
func (t *Totals) Add(other Totals) {
	addCounts(&t.Counters, other.Counters)
	addCounts(&t.Timeouts, other.Timeouts)
	if t.Calls == nil && len(other.Calls) > 0 {
		t.Calls = make(map[string]Calls, len(other.Calls))
	}
	for op, c := range other.Calls {
		sum := t.Calls[op]
		sum.Count += c.Count
		sum.Failed += c.Failed
		sum.Time += c.Time
		t.Calls[op] = sum
	}
}

func addCounts(to *map[string]uint64, from map[string]uint64) {
	if *to == nil && len(from) > 0 {
		*to = make(map[string]uint64, len(from))
	}
	for name, n := range from {
		(*to)[name] += n
	}
}
