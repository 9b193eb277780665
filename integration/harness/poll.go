// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"testing"
	"time"
)

// pollInterval is how often a condition that has no event is looked at.
const pollInterval = 20 * time.Millisecond

// Patience is how long a test waits for something that should be immediate:
// generous, because two busy cores are slow, and never reached when it works.
const Patience = 30 * time.Second

// Eventually waits until condition returns "" and fails with what it returned
// last otherwise.
func Eventually(t testing.TB, what string, condition func() string) {
	t.Helper()
	if last := poll(Patience, condition); last != "" {
		t.Fatalf("%s: still not so after %v: %s", what, Patience, last)
	}
}

// poll returns "" as soon as condition does, else its last answer.
func poll(patience time.Duration, condition func() string) string {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		last := condition()
		if last == "" || time.Now().After(deadline) {
			return last
		}
		<-tick.C
	}
}
