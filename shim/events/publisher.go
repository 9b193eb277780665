// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"google.golang.org/protobuf/proto"
)

// settings are the measures that tests change.
type settings struct {
	limits  limits
	call    time.Duration // bounds connecting and one Forward
	linger  time.Duration // how long an idle connection is kept for the next event
	backoff backoff
}

func defaults() settings {
	return settings{
		limits:  limits{count: 4096, bytes: 1 << 20},
		call:    5 * time.Second,
		linger:  time.Second,
		backoff: backoff{first: 50 * time.Millisecond, max: 3 * time.Second},
	}
}

// Stats count what became of the events published so far.
type Stats struct {
	// Queued events wait for the daemon, the one under way included.
	Queued int
	// Delivered events were acknowledged by the daemon.
	Delivered uint64
	// Dropped events will never be delivered.
	Dropped uint64
}

// Publisher hands events to containerd's ttrpc events service.
//
//   - Publish never waits for the daemon.
//   - Events arrive in the order of their Publish calls. One that was
//     acknowledged is not sent again; one whose acknowledgement was lost is, so a
//     daemon that hung or died may see it twice.
//   - An event is tried until it is acknowledged, the daemon rejects it as
//     invalid, Close ends, or the queue is full. A full queue gives up its oldest
//     event that is no exit, and an exit only if it holds nothing else.
//   - At most 4096 events of together 1 MiB are held.
//   - There is a goroutine, and a connection, only while there is something to
//     send, and for a second after it.
type Publisher struct {
	path      string // empty: no daemon to send to
	namespace string
	log       *log.Entry
	settings  settings

	ctx    context.Context // ends when Close gives up
	cancel context.CancelFunc
	more   chan struct{} // wakes a sender that lingers
	retry  chan struct{} // wakes a sender that backs off

	mu      sync.Mutex
	queue   queue
	sending bool          // an item is taken from the queue and not yet done
	done    chan struct{} // of the running sender; nil: none runs
	closed  bool
	stats   Stats // Queued is computed
	unsaid  int   // dropped since the log last said so
}

// New returns a publisher to the daemon whose ttrpc socket is at ttrpcAddress. It
// does not connect. Without a usable address, as from a daemon older than
// containerd 1.4, events are counted as dropped and the log says so once.
func New(ttrpcAddress, namespace string, logger *log.Entry) *Publisher {
	return newPublisher(ttrpcAddress, namespace, logger, defaults())
}

func newPublisher(address, namespace string, logger *log.Entry, s settings) *Publisher {
	p := &Publisher{
		namespace: namespace,
		log:       logger,
		settings:  s,
		queue:     queue{limits: s.limits},
		more:      make(chan struct{}, 1),
		retry:     make(chan struct{}, 1),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	path, err := socketPath(address)
	if err != nil {
		logger.WithError(err).Warn("the daemon takes no events by ttrpc (TTRPC_ADDRESS): its clients will see none of this shim")
		return p
	}
	p.path = path
	return p
}

// Publish queues an event, a message of containerd/api/events, that happened at
// the time given. An event that cannot be encoded is logged and dropped.
func (p *Publisher) Publish(topic string, event any, at time.Time) {
	it, err := encode(topic, event, at)
	if err != nil {
		p.log.WithError(err).WithField("topic", topic).Error("event dropped")
	}
	if overflown := p.enqueue(it, err == nil); overflown {
		p.log.WithField("topic", topic).Warn("the queue of events is full: the oldest are dropped until the daemon takes some")
	}
}

// enqueue tells whether events are dropped now that were not before.
func (p *Publisher) enqueue(it item, valid bool) (overflown bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !valid || p.path == "" || p.closed {
		p.stats.Dropped++
		return false
	}
	if n := p.queue.push(it); n > 0 {
		p.stats.Dropped += uint64(n)
		overflown = p.unsaid == 0
		p.unsaid += n
	}
	if p.done == nil && p.queue.len() > 0 {
		p.done = make(chan struct{})
		go p.send(p.done)
	} else {
		wake(p.more)
	}
	return overflown
}

// Wake ends a wait for the next attempt to reach the daemon. The shim calls it
// when it hears from the daemon, which so gets what it missed at once.
func (p *Publisher) Wake() { wake(p.retry) }

// Stats returns the counts at this moment.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Queued = p.queue.len()
	if p.sending {
		s.Queued++
	}
	return s
}

// Close waits until the queue is delivered, or ctx ends, and ends the connection.
// It says how many events were left, with ctx's error; they count as dropped, and
// so does what is published from now on. Calling it again does nothing.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	done := p.done
	p.mu.Unlock()
	defer p.cancel()
	if done == nil {
		return nil
	}
	wake(p.more)
	wake(p.retry)
	select {
	case <-done:
	case <-ctx.Done():
		p.cancel()
		<-done
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	left := 0
	for _, ok := p.queue.pop(); ok; _, ok = p.queue.pop() {
		left++
	}
	if p.sending {
		p.sending = false
		left++
	}
	if left == 0 {
		return nil
	}
	p.stats.Dropped += uint64(left)
	return fmt.Errorf("%d events were not delivered to %s: %w", left, p.path, context.Cause(ctx))
}

// encode makes an event independent of the message, which its owner may change.
func encode(topic string, event any, at time.Time) (item, error) {
	msg, ok := event.(proto.Message)
	if !ok {
		return item{}, fmt.Errorf("event of type %T is no protobuf message: %w", event, errdefs.ErrInvalidArgument)
	}
	if !utf8.ValidString(topic) {
		return item{}, fmt.Errorf("topic %q is not UTF-8: %w", topic, errdefs.ErrInvalidArgument)
	}
	value, err := proto.Marshal(msg)
	if err != nil {
		return item{}, fmt.Errorf("encode %T: %w: %w", event, err, errdefs.ErrInvalidArgument)
	}
	// The bare name, as typeurl has it: containerd 1.6 finds no type by a prefixed one.
	name := string(msg.ProtoReflect().Descriptor().FullName())
	return item{topic: topic, at: at, typeURL: name, value: value}, nil
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
