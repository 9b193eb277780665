// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// an is an event of a class: o…: others, x…: exits of execs, i…: exits of inits.
func an(seq int, value string) (entry, class) {
	c := map[byte]class{'o': classOther, 'x': classExec, 'i': classInit}[value[0]]
	return entry{seq: uint64(seq), item: &item{topic: "t", value: []byte(value)}}, c
}

func (e entry) name() string { return string(e.item.value) }

func drain(q *queue) []string {
	var got []string
	for e, _, ok := q.pop(); ok; e, _, ok = q.pop() {
		got = append(got, e.name())
	}
	return got
}

func TestQueueGivesUp(t *testing.T) {
	const wide, each = 1 << 20, itemOverhead + 3
	for name, tc := range map[string]struct {
		count, window int
		in            []string
		want, dropped []string
	}{
		"order":                           {9, wide, []string{"o1", "x2", "i3", "x4", "o5"}, []string{"o1", "x2", "i3", "x4", "o5"}, nil},
		"the oldest other first":          {3, wide, []string{"o1", "x2", "o3", "i4", "x5"}, []string{"x2", "i4", "x5"}, []string{"o1", "o3"}},
		"then the oldest exec":            {2, wide, []string{"i1", "x2", "x3", "i4"}, []string{"i1", "i4"}, []string{"x2", "x3"}},
		"an exec for a later one":         {2, wide, []string{"x1", "x2", "x3"}, []string{"x2", "x3"}, []string{"x1"}},
		"never an exit for an other":      {2, wide, []string{"x1", "i2", "o3"}, []string{"x1", "i2"}, []string{"o3"}},
		"never an init":                   {2, wide, []string{"i1", "i2", "x3", "o4", "i5"}, []string{"i1", "i2", "i5"}, []string{"x3", "o4"}},
		"by bytes":                        {9, 3 * each, []string{"o1", "x2", "o3", "o4"}, []string{"x2", "o3", "o4"}, []string{"o1"}},
		"one that can never fit":          {9, each - 1, []string{"x1"}, nil, []string{"x1"}},
		"an init that can never fit":      {9, each - 1, []string{"i1"}, []string{"i1"}, nil},
		"an other that meets only exits":  {1, wide, []string{"x1", "o2", "o3"}, []string{"x1"}, []string{"o2", "o3"}},
		"an exec that meets only an init": {1, wide, []string{"i1", "x2"}, []string{"i1"}, []string{"x2"}},
	} {
		t.Run(name, func(t *testing.T) {
			q := queue{limits: limits{count: tc.count, window: tc.window}}
			var dropped []string
			for i, v := range tc.in {
				for _, e := range q.push(an(i+1, v)) {
					dropped = append(dropped, e.name())
				}
			}
			if got := drain(&q); !slices.Equal(got, tc.want) || !slices.Equal(dropped, tc.dropped) {
				t.Fatalf("got %q and dropped %q, want %q and %q", got, dropped, tc.want, tc.dropped)
			}
			if q.held != 0 || q.lines[0].entries != nil || q.lines[1].entries != nil || q.lines[2].entries != nil {
				t.Fatalf("an empty queue holds %d bytes", q.held)
			}
		})
	}
}

// TestQueueWindow: what is in the spool leaves the memory when there is no room.
func TestQueueWindow(t *testing.T) {
	const each = itemOverhead + 3
	q := queue{limits: limits{count: 100, window: 2 * each}}
	for i := range 5 {
		e, c := an(i+1, fmt.Sprintf("x%d", i))
		e.off, e.n = uint32(100*i), 50
		if dropped := q.push(e, c); dropped != nil {
			t.Fatalf("dropped %v", dropped)
		}
	}
	if q.held != 2*each || q.spooled != 250 {
		t.Errorf("%d bytes in memory, %d in the spool", q.held, q.spooled)
	}
	for i := range 5 {
		e, _, _ := q.pop()
		if (e.item != nil) != (i < 2) || e.off != uint32(100*i) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

// TestQueueModel compares with a plain list under random use.
func TestQueueModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const room = 16
	q := queue{limits: limits{count: room, window: 1 << 20}}
	var model []string
	firstOf := func(kind byte) int {
		return slices.IndexFunc(model, func(m string) bool { return m[0] == kind })
	}
	for i := range 20000 {
		if rng.IntN(5) == 0 {
			e, _, ok := q.pop()
			if ok != (len(model) > 0) {
				t.Fatalf("step %d: pop says %v with %d in the list", i, ok, len(model))
			}
			if ok {
				if e.name() != model[0] {
					t.Fatalf("step %d: %s, want %s", i, e.name(), model[0])
				}
				model = model[1:]
			}
			continue
		}
		kind := "oooxxi"[rng.IntN(6)]
		value := fmt.Sprintf("%c%d", kind, i)
		q.push(an(i+1, value))
		if len(model) >= room {
			victim := firstOf('o')
			if victim < 0 && kind != 'o' {
				victim = firstOf('x')
			}
			if victim < 0 && kind != 'i' {
				continue
			}
			if victim >= 0 {
				model = slices.Delete(slices.Clone(model), victim, victim+1)
			}
		}
		model = append(model, value)
		if q.len() != len(model) {
			t.Fatalf("step %d: %d in the queue, %d in the list", i, q.len(), len(model))
		}
	}
}
