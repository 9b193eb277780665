// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
	"github.com/quoin-io/quoin/shim/control"
)

// figures are the numbers of one shim, or of all.
type figures struct {
	family *family
	labels []string // values, of one shim

	containers, execs, goroutines, threads, files, orphans, queued int

	memory  control.Memory
	totals  control.Totals
	up      bool          // of one shim
	age     time.Duration // of one shim
	version string        // of one shim
	// versions and statuses count shims, of all.
	versions map[string]int
	statuses map[shims.Status]int
}

func (f *figures) add(i control.Info) {
	f.containers += len(i.Containers)
	for _, c := range i.Containers {
		f.execs += c.Execs
	}
	f.goroutines += i.Goroutines
	f.threads += i.Threads
	f.files += i.OpenFiles
	f.orphans += i.Orphans
	f.queued += i.EventsQueued
	f.memory.RSS += i.Memory.RSS
	f.memory.Private += i.Memory.Private
	f.totals.Add(i.Totals)
}

// sum is over all shims; what has ended is in the totals only. c.mu is held.
func (c *Collector) sum() *figures {
	all := &figures{family: sums, versions: map[string]int{}, statuses: c.statuses()}
	for _, e := range c.known {
		if !e.current {
			all.totals.Add(e.info.Totals)
			continue
		}
		all.add(e.info)
		all.versions[e.info.Version]++
	}
	all.totals.Add(c.retired)
	return all
}

// each are those of each shim, if asked for. c.mu is held.
func (c *Collector) each() []*figures {
	if !c.options.PerShim {
		return nil
	}
	var all []*figures
	for k, e := range c.known {
		if !e.current {
			continue
		}
		f := &figures{
			family: one, labels: []string{k.namespace, e.info.ID},
			up: e.answers, age: time.Since(e.info.Started), version: e.info.Version,
		}
		f.add(e.info)
		all = append(all, f)
	}
	return all
}

// statuses has all of them, so that a series does not come and go.
func (c *Collector) statuses() map[shims.Status]int {
	count := map[shims.Status]int{shims.OK: 0, shims.Stuck: 0, shims.Foreign: 0, shims.Gone: 0, shims.Failed: 0}
	maps.Copy(count, c.count)
	return count
}

// Describe sends nothing: which series there are is known by asking.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// out sends numbers with the labels of one shim before their own.
type out struct {
	ch     chan<- prometheus.Metric
	labels []string
}

func (o out) value(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, kind, v, append(o.labels[:len(o.labels):len(o.labels)], labels...)...)
}

func (o out) gauge(d *prometheus.Desc, v float64, labels ...string) {
	o.value(d, prometheus.GaugeValue, v, labels...)
}

func (o out) counter(d *prometheus.Desc, v float64, labels ...string) {
	o.value(d, prometheus.CounterValue, v, labels...)
}

func (f *figures) send(ch chan<- prometheus.Metric) {
	o, d := out{ch, f.labels}, f.family
	for status, n := range f.statuses {
		o.gauge(d.shims, float64(n), string(status))
	}
	for version, n := range bounded(f.versions, addInts) {
		o.gauge(d.versions, float64(n), version)
	}
	if f.labels != nil {
		up := 0.0
		if f.up {
			up = 1
		}
		o.gauge(d.up, up)
		o.gauge(d.age, f.age.Seconds())
		o.gauge(d.build, 1, f.version)
	}
	o.gauge(d.containers, float64(f.containers))
	o.gauge(d.execs, float64(f.execs))
	o.gauge(d.goroutines, float64(f.goroutines))
	o.gauge(d.threads, float64(f.threads))
	o.gauge(d.files, float64(f.files))
	o.gauge(d.orphans, float64(f.orphans))
	o.gauge(d.queued, float64(f.queued))
	o.gauge(d.memory, float64(f.memory.RSS), "rss")
	o.gauge(d.memory, float64(f.memory.Private), "private")
	f.sendTotals(o)
}

func (f *figures) sendTotals(o out) {
	d := f.family
	for _, c := range d.counters {
		o.counter(c.desc, float64(f.totals.Counters[c.name]), c.labels...)
	}
	for op, calls := range bounded(f.totals.Calls, addCalls) {
		o.counter(d.calls, float64(calls.Count-min(calls.Failed, calls.Count)), op, "ok")
		o.counter(d.calls, float64(calls.Failed), op, "error")
		o.counter(d.seconds, calls.Time.Seconds(), op)
	}
	for step, n := range bounded(f.totals.Timeouts, addCounts) {
		o.counter(d.timeouts, float64(n), step)
	}
}
