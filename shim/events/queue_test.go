// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func drain(q *queue) []string {
	var got []string
	for it, ok := q.pop(); ok; it, ok = q.pop() {
		got = append(got, string(it.value))
	}
	return got
}

func TestQueueGivesUp(t *testing.T) {
	const wide = 1 << 20
	for name, tc := range map[string]struct {
		limits  limits
		in      []string // x…: exits, o…: others
		want    []string
		dropped int
	}{
		"order":                       {limits{9, wide}, []string{"o1", "x2", "x3", "o4"}, []string{"o1", "x2", "x3", "o4"}, 0},
		"the oldest other first":      {limits{3, wide}, []string{"o1", "x2", "o3", "x4", "x5"}, []string{"x2", "x4", "x5"}, 2},
		"an exit for a later exit":    {limits{2, wide}, []string{"x1", "x2", "x3"}, []string{"x2", "x3"}, 1},
		"never an exit for an other":  {limits{2, wide}, []string{"x1", "x2", "o3"}, []string{"x1", "x2"}, 1},
		"by bytes":                    {limits{9, 3*itemOverhead + 42}, []string{"o1", "x2", "o3", "o4"}, []string{"x2", "o3", "o4"}, 1},
		"one that can never fit":      {limits{9, itemOverhead}, []string{"x1"}, nil, 1},
		"a large one for small ones":  {limits{9, 2*itemOverhead + 40}, []string{"o1", "o2", "x" + string(make([]byte, 100))}, []string{"x" + string(make([]byte, 100))}, 2},
		"an other that meets no room": {limits{1, wide}, []string{"x1", "o2", "o3"}, []string{"x1"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			q := queue{limits: tc.limits}
			dropped := 0
			for _, v := range tc.in {
				it := item{topic: TopicStart, value: []byte(v)}
				if v[0] == 'x' {
					it.topic = TopicExit
				}
				dropped += q.push(it)
			}
			if got := drain(&q); !slices.Equal(got, tc.want) || dropped != tc.dropped {
				t.Fatalf("got %q and dropped %d, want %q and %d", got, dropped, tc.want, tc.dropped)
			}
			if q.bytes != 0 || q.exits.items != nil || q.others.items != nil {
				t.Fatalf("an empty queue holds %d bytes", q.bytes)
			}
		})
	}
}

// TestQueueModel compares with a plain list under random use.
func TestQueueModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	q := queue{limits: limits{count: 16, bytes: 1 << 20}}
	var model []item
	for i := range 20000 {
		if rng.IntN(5) == 0 {
			got, ok := q.pop()
			if ok != (len(model) > 0) {
				t.Fatalf("step %d: pop says %v with %d in the list", i, ok, len(model))
			}
			if ok {
				if string(got.value) != string(model[0].value) {
					t.Fatalf("step %d: %s, want %s", i, got.value, model[0].value)
				}
				model = model[1:]
			}
			continue
		}
		it := item{topic: TopicStart, value: fmt.Append(nil, i)}
		if rng.IntN(3) == 0 {
			it.topic = TopicExit
		}
		q.push(it)
		if len(model) == 16 {
			victim := slices.IndexFunc(model, func(m item) bool { return m.topic != TopicExit })
			if victim < 0 && it.topic != TopicExit {
				continue
			}
			victim = max(victim, 0)
			model = slices.Delete(slices.Clone(model), victim, victim+1)
		}
		model = append(model, it)
	}
}
