// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// live lets a world live by what the bytes choose, and then brings it to an end
// in which nobody waits any more.
func live(bytes []byte) (w *world, err error) {
	w = newWorld()
	for _, b := range bytes {
		if w.retired {
			return w, w.concluded()
		}
		all := w.choices()
		if err := all[int(b)%len(all)].do(); err != nil {
			return w, err
		}
	}
	return w, w.conclude()
}

// conclude has all operations succeed, all processes end, and the container
// deleted. That must come to an end.
func (w *world) conclude() error {
	for range 200 {
		if w.retired {
			return w.concluded()
		}
		var next *choice
		for _, prefix := range []string{"create succeeds", "start makes", "start succeeds", "delete succeeds", "resume succeeds", "pause succeeds", "record", "exit of", "delete init"} {
			for _, c := range w.choices() {
				if next == nil && strings.HasPrefix(c.name, prefix) {
					next = &c
				}
			}
		}
		if err := next.do(); err != nil {
			return err
		}
	}
	return fmt.Errorf("the container is not deleted in the end: %s", w.m.describeState())
}

// concluded checks what is left when a container is gone. Requests of which the
// result is still to come are answered by the driver, with ErrNotFound.
func (w *world) concluded() error {
	for _, s := range w.starts {
		delete(w.open, s.to)
	}
	for id := range w.deletes {
		for _, to := range w.m.execs[id].deletes {
			delete(w.open, to)
		}
	}
	for _, f := range w.freezes {
		delete(w.open, f.to)
	}
	for to := range w.open {
		return fmt.Errorf("%s was never answered", w.calls[to])
	}
	if b := w.bodies[w.m.init.h]; b.exited && !b.told && w.happened["container.publish"] {
		return fmt.Errorf("the exit of the init was never told")
	}
	return nil
}

// shrink makes the shortest bytes that it can find that fail as well.
func shrink(bytes []byte) []byte {
	fails := func(b []byte) bool { _, err := live(b); return err != nil }
	for again := true; again; {
		again = false
		for size := max(1, len(bytes)/2); size > 0; size /= 2 {
			for at := 0; at+size <= len(bytes); at++ {
				if shorter := slices.Concat(bytes[:at], bytes[at+size:]); fails(shorter) {
					bytes, again = shorter, true
				}
			}
		}
		for at := range bytes {
			for v := range bytes[at] {
				lower := slices.Clone(bytes)
				if lower[at] = v; fails(lower) {
					bytes, again = lower, true
					break
				}
			}
		}
	}
	return bytes
}

func fail(t testing.TB, bytes []byte) {
	t.Helper()
	small := shrink(bytes)
	w, err := live(small)
	t.Fatalf("%v\nbytes %v:\n%s", err, small, strings.Join(w.trace, "\n"))
}

// TestRandomOrders lets many worlds live, and wants all of the machine to have
// been seen: each transition of the table, each effect.
func TestRandomOrders(t *testing.T) {
	const worlds = 5000
	random := rand.New(rand.NewPCG(1, 2))
	edges, happened := map[[2]phase]bool{}, map[string]bool{}
	for range worlds {
		bytes := make([]byte, random.IntN(80))
		for i := range bytes {
			bytes[i] = byte(random.Uint32())
		}
		w, err := live(bytes)
		if err != nil {
			fail(t, bytes)
		}
		maps.Copy(edges, w.edges)
		maps.Copy(happened, w.happened)
	}
	for from, next := range transitions {
		for _, to := range next {
			if !edges[[2]phase{phase(from), to}] {
				t.Errorf("%s → %s never happened", phase(from), to)
			}
		}
	}
	for _, e := range []effect{
		startOp{}, deleteOp{}, freezeOp{}, record{}, killInit{}, killAll{}, watchExecs{}, watchStart{}, announce{}, answer{}, leave{}, retire{}, finish{},
		publish{}, publishExecAdded{}, publishStart{}, publishExit{}, publishDelete{}, publishFreeze{},
	} {
		if name := fmt.Sprintf("%T", e); !happened[name] {
			t.Errorf("%s never happened", name)
		}
	}
}

func FuzzOrders(f *testing.F) {
	f.Add([]byte{12, 0, 40, 9, 3, 7})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		if len(bytes) > 500 {
			return
		}
		if _, err := live(bytes); err != nil {
			fail(t, bytes)
		}
	})
}

// TestWays keeps the check of transitions honest.
func TestWays(t *testing.T) {
	if got := fmt.Sprint(ways(phaseStarting, phaseExiting, 3)); got != "[[starting running exiting] [starting created exiting]]" {
		t.Error(got)
	}
	if got := ways(phaseDeleted, phaseRunning, 3); got != nil {
		t.Error(got)
	}
}
