// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"sync"
	"testing"
	"time"
)

// Stopwatch measures how long something takes without the time in which the whole
// machine stands still, as one does that others share: so a bound of a few seconds
// stays one, and fails for what is slow only.
type Stopwatch struct {
	begun time.Time

	mu    sync.Mutex
	last  time.Time     // when the machine last showed that it goes on
	stood time.Duration // standstills until then
}

const (
	// pulse is how often a machine shows that it goes on.
	pulse = 100 * time.Millisecond
	// standstill is how late that has to be to count: on two busy cores everything
	// comes a little late.
	standstill = 500 * time.Millisecond
)

// StartWatch starts a stopwatch, which runs until the test's end.
func StartWatch(t testing.TB) *Stopwatch {
	now := time.Now()
	w := &Stopwatch{begun: now, last: now}
	ticker := time.NewTicker(pulse)
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				w.beat()
			case <-t.Context().Done():
				return
			}
		}
	}()
	return w
}

// beat counts the standstill that has ended, if there was one.
func (w *Stopwatch) beat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if late := time.Since(w.last) - pulse; late > standstill {
		w.stood += late
	}
	w.last = time.Now()
}

// Took is the time since the start in which the machine went on.
func (w *Stopwatch) Took() time.Duration {
	w.beat() // one that ended just now has had no pulse yet
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.begun) - w.stood
}
