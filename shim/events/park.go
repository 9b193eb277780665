// SPDX-License-Identifier: Apache-2.0

package events

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"
)

// State is a parked publisher, for the process that takes over from this one.
type State struct {
	// Spool is the descriptor of the spool, which has to be passed on under any
	// number; -1 when there is none. What is in it is read from there.
	Spool int `json:"spool"`
	// Next is the number of the last event.
	Next uint64 `json:"next"`
	// Memory are the events that are in no spool, in any order.
	Memory []Kept `json:"memory,omitempty"`
	// Stats are the counts so far; Queued is computed anew.
	Stats Stats `json:"stats"`
}

// Kept is one event that is in memory only.
type Kept struct {
	Seq      uint64 `json:"seq"`
	Class    uint8  `json:"class"`
	Envelope []byte `json:"envelope"`
}

// Park ends the sending between two events and returns what a successor needs. An
// event that is under way is waited for until ctx ends: then everything goes on as
// before, and the error is errdefs.ErrUnavailable. What is published while it is
// parked is kept. Unpark goes on.
func (p *Publisher) Park(ctx context.Context) (State, error) {
	p.mu.Lock()
	if p.parked || p.closed {
		p.mu.Unlock()
		return State{}, fmt.Errorf("park the events: they are parked or closed already: %w", errdefs.ErrFailedPrecondition)
	}
	p.parked = true
	done := p.done
	p.mu.Unlock()
	if done != nil {
		wake(p.more)
		wake(p.retry)
		select {
		case <-done:
		case <-ctx.Done():
			p.Unpark()
			return State{}, fmt.Errorf("park the events: the daemon does not answer to one: %w: %w", errdefs.ErrUnavailable, ctx.Err())
		}
	}
	s, err := p.state()
	if err != nil {
		p.Unpark()
	}
	return s, err
}

func (p *Publisher) state() (State, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{Spool: -1, Next: p.next, Stats: p.stats}
	if p.spool.file != nil {
		s.Spool = int(p.spool.file.Fd())
	}
	var err error
	keep := func(e *entry, c class) {
		if e.n > 0 || err != nil {
			return
		}
		var payload []byte
		if payload, err = encodePayload(e.item, p.namespace); err == nil {
			s.Memory = append(s.Memory, Kept{Seq: e.seq, Class: uint8(c), Envelope: payload})
		}
	}
	if p.current != nil {
		keep(p.current, p.class)
	}
	p.queue.all(keep)
	return s, err
}

// Unpark goes on sending; also after Resume.
func (p *Publisher) Unpark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked = false
	p.rouse()
}

// Resume makes the publisher that goes on from a parked one. It sends nothing
// before Unpark. file takes a descriptor of the state out of what was passed on. A
// spool of which something cannot be read yields the rest, and a line in the log.
func Resume(cfg Config, s State, file func(fd int) (*os.File, error)) (*Publisher, error) {
	return resume(cfg, defaults(), s, file)
}

func resume(cfg Config, set settings, s State, file func(fd int) (*os.File, error)) (*Publisher, error) {
	p := newPublisher(cfg, set)
	p.parked, p.next, p.stats = true, s.Next, s.Stats
	p.stats.Queued = 0
	var all []parkedEntry
	if s.Spool >= 0 {
		f, err := file(s.Spool)
		if err != nil {
			return nil, fmt.Errorf("resume the events: %w", err)
		}
		if all, err = p.readSpool(f); err != nil {
			f.Close()
			return nil, fmt.Errorf("resume the events: %w", err)
		}
	}
	for _, k := range s.Memory {
		it, _, err := decodePayload(k.Envelope)
		if err != nil {
			p.spool.close()
			return nil, fmt.Errorf("resume the events: %w", err)
		}
		all = append(all, parkedEntry{entry{seq: k.Seq, item: &it}, min(class(k.Class), classInit)})
	}
	slices.SortFunc(all, func(a, b parkedEntry) int { return cmp.Compare(a.seq, b.seq) })
	for _, e := range all {
		p.next = max(p.next, e.seq)
		p.queue.add(e.entry, e.class)
	}
	return p, nil
}

type parkedEntry struct {
	entry
	class class
}
