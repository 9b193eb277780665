// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
)

// What one resident shim may cost at most: generous bounds, which a dependency or
// a goroutine for each of something would break. The benchmark measures.
const (
	maxPrivateKB = 3500
	maxThreads   = 9
)

// TestBudget: there is a shim for each pod of a node, so that its private memory
// and its threads are paid a hundred times.
func TestBudget(t *testing.T) {
	b := newBed(t)
	s := b.start()
	within := func(when string) {
		t.Helper()
		private, threads := 0, 0
		eventually(t, "it is within its budget, "+when, func() bool {
			private, threads = s.cost()
			return private <= maxPrivateKB && threads <= maxThreads
		})
		t.Logf("%s: %d KB private, %d threads", when, private, threads)
	}
	within("before the first container")
	s.run(b)
	for range 20 {
		if _, err := s.State(t.Context(), &task.StateRequest{ID: b.id}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stats(t.Context(), &task.StatsRequest{ID: b.id}); err != nil {
			t.Fatal(err)
		}
	}
	within("with a container that runs")
	s.remove(b)
	within("after it")
}

// cost is its private memory, in KB, and its threads.
func (s *served) cost() (private, threads int) {
	s.t.Helper()
	kb, err := strconv.Atoi(strings.TrimSuffix(procField(s.t, s.pid, "RssAnon"), " kB"))
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.Atoi(procField(s.t, s.pid, "Threads"))
	if err != nil {
		s.t.Fatal(err)
	}
	return kb, n
}
