// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoin-io/quoin/shim/control"
)

// family describes the series of one shim, or of all together.
type family struct {
	shims, versions                                                *prometheus.Desc // of all
	up, age, build                                                 *prometheus.Desc // of one
	containers, execs, goroutines, threads, files, orphans, queued *prometheus.Desc
	memory, calls, seconds, timeouts                               *prometheus.Desc
	counters                                                       []counter
}

// counter is a series that is one of control's counters.
type counter struct {
	desc   *prometheus.Desc
	name   string
	labels []string
}

var (
	sums = newFamily("quoin_shims_", " of all shims")
	one  = newFamily("quoin_shim_", " of one shim", "namespace", "id")
)

func newFamily(prefix, whose string, fixed ...string) *family {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help+whose, append(slices.Clip(fixed), labels...), nil)
	}
	exits := desc("exits_total", "Exits that were told, of containers' first processes (init) and of execs,", "process")
	reaped := desc("reaped_total", "Children that were waited for: containers' processes, and adopted orphans (stranger),", "kind")
	upgrades := desc("upgrades_total", "Upgrades in place by outcome", "outcome")
	return &family{
		shims:      desc("count", "Number by status: ok, stuck, foreign, gone, failed,", "status"),
		versions:   desc("versions", "Number by version", "version"),
		up:         desc("up", "Whether it answered the last question,"),
		age:        desc("uptime_seconds", "Time since the start, upgrades in place not counted,"),
		build:      desc("info", "Version", "version"),
		containers: desc("containers", "Containers, those that are being created or have stopped included,"),
		execs:      desc("execs", "Execs that were not deleted"),
		goroutines: desc("goroutines", "Goroutines"),
		threads:    desc("threads", "Threads"),
		files:      desc("open_files", "Open descriptors"),
		orphans:    desc("orphans", "Adopted children that nobody waits for"),
		queued:     desc("events_queued", "Events that wait for the daemon"),
		memory:     desc("memory_bytes", "Memory: resident (rss, shared pages included), and private", "kind"),
		calls:      desc("runtime_calls_total", "Calls of OCI runtimes by operation and outcome", "operation", "outcome"),
		seconds:    desc("runtime_seconds_total", "Time that calls of OCI runtimes took, by operation,", "operation"),
		timeouts:   desc("timeouts_total", "Steps that did not end within their deadline", "step"),
		counters: []counter{
			{exits, control.ExitsInit, []string{"init"}},
			{exits, control.ExitsExec, []string{"exec"}},
			{desc("exits_unknown_total", "Exits whose status nobody can tell"), control.ExitsUnknown, nil},
			{desc("oom_kills_total", "OOM kills that were told"), control.OOMKills, nil},
			{reaped, control.Reaped, []string{"process"}},
			{reaped, control.StrangersReaped, []string{"stranger"}},
			{desc("events_delivered_total", "Events that the daemon acknowledged"), control.EventsDelivered, nil},
			{desc("events_resent_total", "Attempts to deliver an event after its first"), control.EventsResent, nil},
			{desc("events_dropped_total", "Events that will never arrive"), control.EventsDropped, nil},
			{upgrades, control.Upgrades, []string{"ok"}},
			{upgrades, control.UpgradesFailed, []string{"failed"}},
		},
	}
}

// maxValues bounds the values of a label that come from shims, and maxLength
// their bytes.
const (
	maxValues = 50
	maxLength = 64
)

// bounded puts into "other" what would be too many series, whatever shims send.
func bounded[V any](by map[string]V, add func(a, b V) V) map[string]V {
	few := make(map[string]V, min(len(by), maxValues+1))
	for _, name := range slices.Sorted(maps.Keys(by)) {
		label := name
		if len(few) >= maxValues || len(name) > maxLength || name == "" {
			label = "other"
		}
		few[label] = add(few[label], by[name])
	}
	return few
}

func addInts(a, b int) int         { return a + b }
func addCounts(a, b uint64) uint64 { return a + b }
func addCalls(a, b control.Calls) control.Calls {
	return control.Calls{Count: a.Count + b.Count, Failed: a.Failed + b.Failed, Time: a.Time + b.Time}
}
