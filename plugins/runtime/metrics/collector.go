// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
	"github.com/quoin-io/quoin/shim/control"
)

// fresh is how long a round of questions is good for: two scrapers at the same
// time ask once.
const fresh = 500 * time.Millisecond

// perShim is added to the patience for each shim that is asked: all answer at once,
// and share the processors.
const perShim = 2 * time.Millisecond

// Options of a Collector.
type Options struct {
	// State is the daemon's state directory.
	State string
	// Patience is how long a shim may take to answer, with 2 ms more for each that is
	// asked, and so what a scrape takes at most beside finding them.
	Patience time.Duration
	// PerShim adds series of each shim.
	PerShim bool
}

// Collector serves the numbers of a daemon's shims. It is safe for concurrent
// use. It starts nothing and asks nobody before the first scrape.
type Collector struct {
	options Options
	armed   atomic.Bool // somebody scrapes

	round sync.Mutex // held while shims are asked, by nothing that serves requests
	last  time.Time  // end of the last round, guarded by round
	said  string     // error that was logged last, guarded by round

	mu      sync.Mutex
	known   map[key]*entry       // guarded by mu
	retired control.Totals       // of shims that have ended, guarded by mu
	count   map[shims.Status]int // guarded by mu
}

// key tells a shim from a later one at the same address.
type key struct {
	namespace, address string
	started            int64 // in nanoseconds of Unix time
}

// entry is what a shim said last.
type entry struct {
	info    control.Info
	heard   time.Time // when its answer came
	current bool      // it was found in the last round
	answers bool      // and answered
}

var _ prometheus.Collector = (*Collector)(nil)

// New returns a collector for the daemon's registry.
func New(options Options) *Collector {
	return &Collector{options: options, known: map[key]*entry{}, count: map[shims.Status]int{}}
}

// Collect asks the shims and sends what is known of them.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.armed.Store(true)
	c.look()
	c.mu.Lock()
	all := append(c.each(), c.sum())
	c.mu.Unlock()
	for _, f := range all {
		f.send(ch)
	}
}

// look makes a round, unless one has just been made.
func (c *Collector) look() {
	c.round.Lock()
	defer c.round.Unlock()
	if time.Since(c.last) < fresh {
		return
	}
	began := time.Now()
	found, err := shims.Find(c.options.State)
	if errdefs.IsNotFound(err) && len(found) == 0 {
		err = nil // no task was ever created
	}
	reports := shims.Ask(context.Background(), found, c.options.Patience+time.Duration(len(found))*perShim)
	c.complain(err)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(reports)
	// What could not be listed is not known to have ended.
	if err == nil {
		c.retire(reports, began)
	}
	c.last = time.Now()
}

// complain logs an error once, until another comes.
func (c *Collector) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != c.said {
		log.L.WithError(err).Warn("metrics: not all shims were found")
	}
	c.said = text
}

// take notes what a round has brought.
func (c *Collector) take(reports []shims.Report) {
	clear(c.count)
	for _, e := range c.known {
		e.current, e.answers = false, false
	}
	for _, r := range reports {
		c.count[r.Status]++
		if r.Status == shims.OK {
			e := c.note(r.Namespace, r.Address, r.Info)
			e.current, e.answers = true, true
			continue
		}
		if r.Status == shims.Stuck || r.Status == shims.Failed {
			for k, e := range c.known {
				if k.namespace == r.Namespace && k.address == r.Address {
					e.current = true
				}
			}
		}
	}
}

// note keeps an answer, unless a later one has been noted already.
func (c *Collector) note(namespace, address string, info control.Info) *entry {
	k := key{namespace, address, info.Started.UnixNano()}
	e := c.known[k]
	if e == nil {
		e = &entry{}
		c.known[k] = e
	}
	if e.heard.IsZero() || weight(info.Totals) >= weight(e.info.Totals) {
		e.info = info
	}
	e.heard = time.Now()
	return e
}

// weight grows with everything that is counted, so that it orders the answers of
// one shim.
func weight(t control.Totals) (sum uint64) {
	for _, n := range t.Counters {
		sum += n
	}
	for _, n := range t.Timeouts {
		sum += n
	}
	for _, c := range t.Calls {
		sum += c.Count
	}
	return sum
}

// retire keeps the totals of shims that have ended, and nothing else of them: no
// bundle names them any more, or another answers at their address. One that was
// heard of since the round began may be too new to be in it.
func (c *Collector) retire(reports []shims.Report, began time.Time) {
	type place struct{ namespace, address string }
	answered := make(map[place]int64, len(reports)) // the start of the shim there; 0 if unknown
	for _, r := range reports {
		var started int64
		if r.Status == shims.OK {
			started = r.Info.Started.UnixNano()
		}
		answered[place{r.Namespace, r.Address}] = started
	}
	for k, e := range c.known {
		started, found := answered[place{k.namespace, k.address}]
		if found && (started == 0 || started == k.started) {
			continue
		}
		if !found && e.heard.After(began) {
			continue
		}
		c.retired.Add(e.info.Totals)
		delete(c.known, k)
	}
}

// Deleting is called before a task is deleted, which may end its shim; the
// returned function after it. The shim's last words are heard so: containers that
// come and go between two scrapes count too.
func (c *Collector) Deleting(ctx context.Context, namespace, id string) (deleted func()) {
	if !c.armed.Load() {
		return func() {}
	}
	address, err := shims.Address(c.options.State, namespace, id)
	if err != nil {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.Patience)
	defer cancel()
	// The shim stays as long as somebody is connected, for a moment.
	client, err := control.Dial(ctx, address)
	if err != nil {
		return func() {}
	}
	return func() {
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), c.options.Patience)
		defer cancel()
		info, err := client.Info(ctx)
		if err != nil {
			return // the next scrape, or nobody, tells
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.note(namespace, address, info)
	}
}
