// SPDX-License-Identifier: Apache-2.0

package events

// keep writes an event to the spool and tells where; 0 bytes when it cannot be
// kept there. writing is held.
func (p *Publisher) keep(it *item, c class, seq uint64) (off, n uint32) {
	payload, err := encodePayload(it, p.namespace)
	if err == nil {
		record := encodeRecord(seq, c, payload)
		room := int(p.spool.size)+len(record) <= p.settings.limits.spool
		if !room {
			room, err = p.makeRoom(len(record))
		}
		// There are no more exits of inits than containers: they are kept in any case.
		if err == nil && (room || c == classInit) {
			off, n, err = p.spool.append(record)
		}
	}
	if err != nil && !p.spool.broken {
		p.spool.broken = true
		p.log.WithError(err).Error("events are kept in memory only: they are lost if the shim is killed")
	} else if err == nil && n > 0 {
		p.spool.broken = false
	}
	return off, n
}

// makeRoom shortens the spool to what is still to be delivered, and drops of that
// when it is more than half of what may be. It tells whether there is room now; it
// rewrites nothing for less than a quarter. writing is held.
func (p *Publisher) makeRoom(need int) (bool, error) {
	p.mu.Lock()
	var dropped []entry
	for p.queue.spooled+need > p.settings.limits.spool/2 {
		e, ok := p.queue.giveUp(classExec)
		if !ok {
			break
		}
		dropped = append(dropped, e)
	}
	p.stats.Dropped += uint64(len(dropped))
	p.unsaid += len(dropped)
	var kept []*entry
	done := p.next - 1
	note := func(e *entry, _ class) {
		done = min(done, e.seq-1)
		if e.n > 0 {
			moved := *e
			kept = append(kept, &moved)
		}
	}
	if p.current != nil {
		note(p.current, p.class)
	}
	p.queue.all(note)
	live := p.queue.spooled
	p.mu.Unlock()
	var places map[uint64]uint32
	var err error
	rewrite := int(p.spool.size)-live >= p.settings.limits.spool/4
	if rewrite {
		places, err = p.spool.rewrite(done, kept)
	}
	if !rewrite || err != nil {
		p.markDropped(dropped)
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	move := func(e *entry, _ class) {
		if e.n > 0 {
			e.off = places[e.seq]
		}
	}
	if p.current != nil {
		move(p.current, p.class)
	}
	p.queue.all(move)
	return int(p.spool.size)+need <= p.settings.limits.spool, nil
}

// markDropped has the spool forget events; writing is held.
func (p *Publisher) markDropped(entries []entry) {
	for _, e := range entries {
		if e.n == 0 {
			continue
		}
		if err := p.spool.drop(e.off); err != nil {
			p.log.WithError(err).Warn("an event that was dropped may still be told after the shim's end")
			return
		}
	}
}
