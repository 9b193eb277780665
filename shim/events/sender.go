// SPDX-License-Identifier: Apache-2.0

package events

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/containerd/ttrpc"
)

// send is the goroutine that empties the queue. It ends when there has been
// nothing to send for a while; the next Publish starts another.
func (p *Publisher) send(done chan struct{}) {
	defer close(done)
	c := &client{path: p.path, timeout: p.settings.connect}
	defer c.close()
	for {
		e, ok := p.take()
		if !ok {
			return
		}
		it, err := p.load(e)
		if err != nil {
			p.log.WithError(err).Error("an event is lost")
			p.finish(e, false)
			continue
		}
		if !p.deliver(c, e, it) {
			return
		}
	}
}

// take removes the oldest event and waits for one if there is none. After false
// the sender has to end: no Publish counts on it any more.
func (p *Publisher) take() (entry, bool) {
	for lingered := false; ; {
		p.mu.Lock()
		if !p.parked && p.current == nil {
			if e, c, ok := p.queue.pop(); ok {
				p.current, p.class = &e, c
			}
		}
		if !p.parked && p.current != nil {
			e := *p.current
			p.mu.Unlock()
			return e, true
		}
		if lingered || p.closed || p.parked {
			p.done = nil
			p.mu.Unlock()
			p.tidy()
			return entry{}, false
		}
		p.mu.Unlock()
		lingered = !p.await(p.more, p.settings.linger)
	}
}

// tidy cuts the spool when there is nothing in it.
func (p *Publisher) tidy() {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	idle := p.queue.len() == 0 && p.current == nil
	p.mu.Unlock()
	if !idle {
		return
	}
	if err := p.spool.empty(); err != nil {
		p.log.WithError(err).Warn("events that were delivered stay on disk")
	}
}

// load returns the event of an entry, from the spool if it is not in memory.
func (p *Publisher) load(e entry) (item, error) {
	if e.item != nil {
		return *e.item, nil
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	off, n := p.current.off, p.current.n // the spool may have been rewritten
	p.mu.Unlock()
	return p.spool.read(off, n)
}

// await tells whether it was woken before the time was over.
func (p *Publisher) await(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
	case <-p.ctx.Done():
	}
	return false
}

// deliver tries one event until it is through, or hopeless. It returns false
// when the publisher has given up or was parked, with the event still current.
func (p *Publisher) deliver(c *client, e entry, it item) bool {
	wait := p.settings.backoff
	var failed time.Time // when this event first failed
	for {
		reused, err := c.forward(p.ctx, p.namespace, it)
		switch {
		case err == nil:
			p.finish(e, true)
			p.recovered(failed)
			return true
		case p.ctx.Err() != nil:
			return p.yield()
		case hopeless(err):
			p.log.WithError(err).WithField("topic", it.topic).Error("the daemon rejects an event: dropped")
			p.finish(e, false)
			return true
		}
		p.count(func(s *Stats) { s.Resent++ })
		if reused && errors.Is(err, ttrpc.ErrClosed) {
			continue // the daemon was restarted since the last event
		}
		if failed.IsZero() {
			failed = time.Now()
			p.log.WithError(err).WithField("topic", it.topic).Warn("events do not reach the daemon; they are kept and tried again")
		}
		p.await(p.retry, wait.next())
		if p.isParked() {
			return p.yield()
		}
	}
}

func (p *Publisher) isParked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.parked
}

// yield ends the sender with an event under way, which the next one begins with.
func (p *Publisher) yield() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = nil
	return false
}

// finish notes that an event needs no more tries.
func (p *Publisher) finish(e entry, delivered bool) {
	defer wake(p.taken)
	p.writing.Lock()
	defer p.writing.Unlock()
	err := p.spool.delivered(e.seq)
	p.mu.Lock()
	p.current = nil
	if delivered {
		p.stats.Delivered++
	} else {
		p.stats.Dropped++
	}
	idle := p.queue.len() == 0
	p.mu.Unlock()
	if err == nil && idle && p.spool.size > trimAt {
		err = p.spool.empty()
	}
	if err != nil {
		p.log.WithError(err).Warn("an event that was delivered may be told again after the shim's end")
	}
}

// recovered tells the end of an outage, and what it cost.
func (p *Publisher) recovered(failed time.Time) {
	p.mu.Lock()
	lost, queued := p.unsaid, p.queue.len()
	p.unsaid = 0
	p.mu.Unlock()
	if failed.IsZero() && lost == 0 {
		return
	}
	l := p.log.WithField("queued", queued).WithField("dropped", lost)
	if !failed.IsZero() {
		l = l.WithField("outage", time.Since(failed).Round(time.Millisecond))
	}
	l.Warn("events reach the daemon again")
}

// backoff yields waits that double, each shortened by chance by up to a fifth,
// so that a restarted daemon does not meet all shims at one moment.
type backoff struct {
	first, max time.Duration
}

func (b *backoff) next() time.Duration {
	d := b.first
	b.first = min(2*b.first, b.max)
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}
