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
	c := &client{path: p.path, timeout: p.settings.call}
	defer c.close()
	for {
		it, ok := p.take()
		if !ok || !p.deliver(c, it) {
			return
		}
	}
}

// take removes the oldest event and waits for one if there is none. After false
// the sender has to end: no Publish counts on it any more.
func (p *Publisher) take() (item, bool) {
	for lingered := false; ; {
		p.mu.Lock()
		if it, ok := p.queue.pop(); ok {
			p.sending = true
			p.mu.Unlock()
			return it, true
		}
		if lingered || p.closed {
			p.done = nil
			p.mu.Unlock()
			return item{}, false
		}
		p.mu.Unlock()
		lingered = !p.await(p.more, p.settings.linger)
	}
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
// when the publisher has given up, with the event still counted as being sent.
func (p *Publisher) deliver(c *client, it item) bool {
	wait := p.settings.backoff
	var failed time.Time // when this event first failed
	for {
		reused, err := c.forward(p.ctx, p.namespace, it)
		switch {
		case err == nil:
			p.finish(true)
			p.recovered(failed)
			return true
		case p.ctx.Err() != nil:
			return false
		case hopeless(err):
			p.log.WithError(err).WithField("topic", it.topic).Error("the daemon rejects an event: dropped")
			p.finish(false)
			return true
		case reused && errors.Is(err, ttrpc.ErrClosed):
			continue // the daemon was restarted since the last event
		}
		if failed.IsZero() {
			failed = time.Now()
			p.log.WithError(err).WithField("topic", it.topic).Warn("events do not reach the daemon; they are kept and tried again")
		}
		p.await(p.retry, wait.next())
	}
}

func (p *Publisher) finish(delivered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sending = false
	if delivered {
		p.stats.Delivered++
	} else {
		p.stats.Dropped++
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
