// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// item is one event, encoded.
type item struct {
	topic   string
	at      time.Time
	typeURL string
	value   []byte
}

// itemOverhead stands for what an item costs beside its bytes.
const itemOverhead = 128

func (it *item) size() int { return len(it.value) + len(it.topic) + len(it.typeURL) + itemOverhead }

// class says what an event is worth when not all can be kept.
type class uint8

const (
	// classOther is whatever is no exit: State and the exit tell the rest.
	classOther class = iota
	// classExec is the exit of an exec.
	classExec
	// classInit is the exit of a container's init. There are as many as the shim
	// has containers, so they need no bound.
	classInit
	// classDropped marks a record of the spool that is not to be delivered.
	classDropped class = 0xff
)

// entry is an event that waits for its turn. What does not fit into the window of
// memory is in the spool only, and read back when its turn comes.
type entry struct {
	seq  uint64
	off  uint32 // of its record in the spool
	n    uint32 // size of that record; 0: it is in memory only
	item *item  // nil: it is in the spool only
}

func (e *entry) held() int {
	if e.item == nil {
		return 0
	}
	return e.item.size()
}

// limits bound a queue.
type limits struct {
	// count of entries, each of some 24 bytes.
	count int
	// window is how much of the events themselves is kept in memory, in bytes.
	window int
	// spool is the size of its file, in bytes.
	spool int
}

// queue keeps events in the order of their coming and gives up the least valuable
// when it is full: the oldest that is no exit, then the oldest exit of an exec,
// never the exit of an init. It has a line for each class, so that the oldest of
// each is at the head of one. It is not safe for concurrent use.
type queue struct {
	limits  limits
	lines   [classInit + 1]line
	held    int // bytes of items in memory
	spooled int // bytes of records in the spool
}

func (q *queue) len() int {
	n := 0
	for i := range q.lines {
		n += q.lines[i].len()
	}
	return n
}

// push appends an event and returns those that were given up for it, itself
// included. An event that is in the spool and does not fit into the window leaves
// the memory.
func (q *queue) push(e entry, c class) (dropped []entry) {
	if e.n > 0 && q.held+e.held() > q.limits.window {
		e.item = nil
	}
	for q.len() >= q.limits.count || (e.item != nil && q.held+e.held() > q.limits.window) {
		victim, ok := q.giveUp(c)
		if !ok {
			break
		}
		dropped = append(dropped, victim)
	}
	full := q.len() >= q.limits.count || (e.item != nil && q.held+e.held() > q.limits.window)
	if full && c != classInit {
		return append(dropped, e)
	}
	q.add(e, c)
	return dropped
}

func (q *queue) add(e entry, c class) {
	q.lines[c].push(e)
	q.held += e.held()
	q.spooled += int(e.n)
}

// giveUp takes the oldest event of the least valuable class, if that is worth no
// more than c and is no init's exit.
func (q *queue) giveUp(c class) (entry, bool) {
	for victim := classOther; victim <= c && victim < classInit; victim++ {
		if q.lines[victim].len() > 0 {
			return q.take(victim), true
		}
	}
	return entry{}, false
}

func (q *queue) take(c class) entry {
	e := q.lines[c].pop()
	q.held -= e.held()
	q.spooled -= int(e.n)
	return e
}

// pop takes the oldest event.
func (q *queue) pop() (entry, class, bool) {
	oldest, found := classOther, false
	for c := range class(len(q.lines)) {
		if q.lines[c].len() > 0 && (!found || q.lines[c].head().seq < q.lines[oldest].head().seq) {
			oldest, found = c, true
		}
	}
	if !found {
		return entry{}, 0, false
	}
	return q.take(oldest), oldest, true
}

// all calls visit for every entry; the order is that of each class.
func (q *queue) all(visit func(*entry, class)) {
	for c := range q.lines {
		l := &q.lines[c]
		for i := l.first; i < len(l.entries); i++ {
			visit(&l.entries[i], class(c))
		}
	}
}

// line is a first-in first-out list whose memory goes when it is empty.
type line struct {
	entries []entry
	first   int
}

func (l *line) len() int     { return len(l.entries) - l.first }
func (l *line) head() *entry { return &l.entries[l.first] }

func (l *line) push(e entry) {
	if l.first > len(l.entries)/2 {
		n := copy(l.entries, l.entries[l.first:])
		clear(l.entries[n:])
		l.entries, l.first = l.entries[:n], 0
	}
	l.entries = append(l.entries, e)
}

func (l *line) pop() entry {
	e := l.entries[l.first]
	l.entries[l.first] = entry{}
	l.first++
	if l.first == len(l.entries) {
		*l = line{}
	}
	return e
}
