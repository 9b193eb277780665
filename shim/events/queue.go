// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// item is one event that waits for its turn, encoded.
type item struct {
	seq     uint64
	topic   string
	at      time.Time
	typeURL string
	value   []byte
}

// itemOverhead stands for what an item costs beside its bytes.
const itemOverhead = 128

func (it *item) size() int { return len(it.value) + len(it.topic) + itemOverhead }

// limits bound a queue. A queue with exits alone is bound by them too.
type limits struct {
	count int
	bytes int
}

// queue keeps events in the order of their coming and gives up the least
// valuable when it is full: the oldest that is no exit, then the oldest exit. It
// has two lines, so that both are at the head of one. It is not safe for
// concurrent use.
type queue struct {
	limits        limits
	exits, others line
	bytes         int
	next          uint64
}

func (q *queue) len() int { return q.exits.len() + q.others.len() }

// push appends an event and tells how many were given up for it, itself included.
func (q *queue) push(it item) (dropped int) {
	exit := it.topic == TopicExit
	if it.size() > q.limits.bytes {
		return 1
	}
	for q.len() >= q.limits.count || q.bytes+it.size() > q.limits.bytes {
		if q.others.len() == 0 && !exit {
			return dropped + 1
		}
		victims := &q.others
		if victims.len() == 0 {
			victims = &q.exits
		}
		victim := victims.pop()
		q.bytes -= victim.size()
		dropped++
	}
	it.seq = q.next
	q.next++
	q.bytes += it.size()
	if exit {
		q.exits.push(it)
	} else {
		q.others.push(it)
	}
	return dropped
}

// pop takes the oldest event.
func (q *queue) pop() (item, bool) {
	from := &q.exits
	switch {
	case q.len() == 0:
		return item{}, false
	case q.exits.len() == 0, q.others.len() > 0 && q.others.head().seq < q.exits.head().seq:
		from = &q.others
	}
	it := from.pop()
	q.bytes -= it.size()
	return it, true
}

// line is a first-in first-out list whose memory goes when it is empty.
type line struct {
	items []item
	first int
}

func (l *line) len() int    { return len(l.items) - l.first }
func (l *line) head() *item { return &l.items[l.first] }

func (l *line) push(it item) {
	if l.first > len(l.items)/2 {
		n := copy(l.items, l.items[l.first:])
		clear(l.items[n:])
		l.items, l.first = l.items[:n], 0
	}
	l.items = append(l.items, it)
}

func (l *line) pop() item {
	it := l.items[l.first]
	l.items[l.first] = item{}
	l.first++
	if l.first == len(l.items) {
		*l = line{}
	}
	return it
}
