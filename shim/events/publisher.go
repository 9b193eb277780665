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
	connect time.Duration // bounds connecting to the daemon
	linger  time.Duration // how long an idle connection is kept for the next event
	backoff backoff
}

func defaults() settings {
	return settings{
		limits:  limits{count: 32 << 10, window: 256 << 10, spool: 16 << 20},
		connect: 5 * time.Second,
		linger:  time.Second,
		backoff: backoff{first: 50 * time.Millisecond, max: 3 * time.Second},
	}
}

// Config says where events come from and go to.
type Config struct {
	// Address is that of the daemon's ttrpc socket.
	Address string
	// Namespace is containerd's.
	Namespace string
	// Dir holds the spool; "" means that events do not outlive the shim. It is the
	// bundle that the shim was started in, "." while that is its directory.
	Dir string
	// Log is told of outages and of what is dropped.
	Log *log.Entry
}

// Stats count what became of the events published so far.
type Stats struct {
	// Queued events wait for the daemon, the one under way included.
	Queued int
	// Delivered events were acknowledged by the daemon.
	Delivered uint64
	// Dropped events will never be delivered.
	Dropped uint64
	// Resent counts the tries after the first of an event.
	Resent uint64
}

// Publisher hands events to containerd's ttrpc events service.
//
//   - Publish never waits for the daemon.
//   - Events arrive in the order of their Publish calls, each once in the life of
//     a daemon: one that is under way is waited for as long as the connection
//     lives, however long the daemon is stopped. When the connection ends, the
//     daemon has; whether it had taken the event nobody knows, and the next daemon,
//     whose subscribers are others, gets it.
//   - An event is tried until it is acknowledged, the daemon rejects it as
//     invalid, or Close ends. Until then it is in the spool, a file that outlives
//     the shim; Leftover reads it.
//   - Memory holds 256 KiB of events and a note of 24 bytes for each of at most
//     32768, the spool 16 MiB. When there are more, the oldest that are no exits are
//     dropped, then the oldest exits of execs, never the exit of an init.
//   - There is a goroutine, and a connection, only while there is something to
//     send, and for a second after it.
type Publisher struct {
	path      string // of the daemon's socket; empty: no daemon to send to
	namespace string
	log       *log.Entry
	settings  settings

	ctx    context.Context // ends when Close gives up
	cancel context.CancelFunc
	more   chan struct{} // wakes a sender that lingers
	retry  chan struct{} // wakes a sender that backs off
	taken  chan struct{} // wakes a Close: an event needs no more tries

	// writing orders the queue and the spool, which is written under it: on /run,
	// where bundles are, that is a copy to memory. It is taken before mu.
	writing sync.Mutex
	spool   spool  // guarded by writing
	next    uint64 // guarded by writing; the seq of the last event

	mu      sync.Mutex
	queue   queue
	current *entry        // taken from the queue and not yet done
	class   class         // of current
	done    chan struct{} // of the running sender; nil: none runs
	closed  bool
	parked  bool
	stats   Stats // Queued is computed
	unsaid  int   // dropped since the log last said so
}

// New returns a publisher. It neither connects nor makes a file. Without a usable
// address, as from a daemon older than containerd 1.4, events are counted as
// dropped and the log says so once.
func New(cfg Config) *Publisher { return newPublisher(cfg, defaults()) }

func newPublisher(cfg Config, s settings) *Publisher {
	p := &Publisher{
		namespace: cfg.Namespace,
		log:       cfg.Log,
		settings:  s,
		queue:     queue{limits: s.limits},
		more:      make(chan struct{}, 1),
		retry:     make(chan struct{}, 1),
		taken:     make(chan struct{}, 1),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	path, err := socketPath(cfg.Address)
	if err != nil {
		cfg.Log.WithError(err).Warn("the daemon takes no events by ttrpc (TTRPC_ADDRESS): its clients will see none of this shim")
		return p
	}
	p.path = path
	if cfg.Dir != "" {
		p.spool.path = spoolPath(cfg.Dir)
	}
	return p
}

// Publish queues an event, a message of containerd/api/events, that happened at
// the time given. An event that cannot be encoded is logged and dropped. When it
// returns, the event is in the spool, unless the disk is full: then it is in memory.
func (p *Publisher) Publish(topic string, event any, at time.Time) {
	it, err := encode(topic, event, at)
	if err != nil {
		p.log.WithError(err).WithField("topic", topic).Error("event dropped")
	}
	if err != nil || !p.open() {
		p.count(func(s *Stats) { s.Dropped++ })
		return
	}
	if overflown := p.enqueue(it, classify(topic, event)); overflown {
		p.log.WithField("topic", topic).Warn("the queue of events is full: the oldest are dropped until the daemon takes some")
	}
}

// open tells whether events are taken.
func (p *Publisher) open() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.path != "" && !p.closed
}

func (p *Publisher) count(f func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.stats)
}

// enqueue tells whether events are dropped now that were not before.
func (p *Publisher) enqueue(it item, c class) (overflown bool) {
	p.writing.Lock()
	defer p.writing.Unlock()
	if !p.open() { // closed meanwhile: the spool is its reader's
		p.count(func(s *Stats) { s.Dropped++ })
		return false
	}
	p.next++
	e := entry{seq: p.next, item: &it}
	e.off, e.n = p.keep(&it, c, e.seq)

	p.mu.Lock()
	dropped := p.queue.push(e, c)
	overflown = len(dropped) > 0 && p.unsaid == 0
	p.stats.Dropped += uint64(len(dropped))
	p.unsaid += len(dropped)
	p.rouse()
	p.mu.Unlock()
	p.markDropped(dropped)
	return overflown
}

// rouse has a sender run if there is something to send; mu is held.
func (p *Publisher) rouse() {
	switch {
	case p.parked || p.closed || (p.queue.len() == 0 && p.current == nil):
	case p.done == nil:
		p.done = make(chan struct{})
		go p.send(p.done)
	default:
		wake(p.more)
	}
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
	if p.current != nil {
		s.Queued++
	}
	return s
}

// Close waits until the queue is delivered, or the daemon has taken no event for as
// long as patience says, and ends the connection. The whole has no bound: on a busy
// machine the daemon may be hundreds of events behind and take them one by one. It
// says how many events were left, with context.DeadlineExceeded; they count as
// dropped, and so does what is published from now on, but the spool keeps what was
// left. Calling it again does nothing.
func (p *Publisher) Close(patience time.Duration) error {
	p.mu.Lock()
	p.closed = true
	done := p.done
	p.mu.Unlock()
	defer p.cancel()
	wake(p.more)
	wake(p.retry)
	if done != nil {
		p.awaitSender(done, patience)
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	defer p.spool.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	left := 0
	for _, _, ok := p.queue.pop(); ok; _, _, ok = p.queue.pop() {
		left++
	}
	if p.current != nil {
		p.current = nil
		left++
	}
	if left == 0 {
		return nil
	}
	p.stats.Dropped += uint64(left)
	return fmt.Errorf("%d events were not delivered: %s has taken none for %v: %w", left, p.path, patience, context.DeadlineExceeded)
}

// awaitSender waits for the sender, and ends it when nothing has gone on for a while.
func (p *Publisher) awaitSender(done <-chan struct{}, patience time.Duration) {
	still := time.NewTimer(patience)
	defer still.Stop()
	for {
		select {
		case <-done:
			return
		case <-p.taken:
			still.Reset(patience)
		case <-still.C:
			p.cancel()
			<-done
			return
		}
	}
}

// classify tells what an event is worth.
func classify(topic string, event any) class {
	if topic != TopicExit {
		return classOther
	}
	e, ok := event.(interface {
		GetContainerID() string
		GetID() string
	})
	if ok && e.GetID() != e.GetContainerID() {
		return classExec
	}
	return classInit
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
