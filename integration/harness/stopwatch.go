// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"sync"
	"time"
)

// Stopwatch measures how long something takes without the time in which the whole
// machine stands still, as one does that others share: so a bound of a few seconds
// stays one, and fails for what is slow only. The zero value is of no use.
type Stopwatch struct {
	begun time.Time
	stood time.Duration // until then
}

// StartWatch starts a stopwatch.
func StartWatch() Stopwatch {
	pulse.once.Do(pulse.start)
	return Stopwatch{begun: time.Now(), stood: pulse.stood()}
}

// Took is the time since the start in which the machine went on.
func (s Stopwatch) Took() time.Duration {
	return time.Since(s.begun) - (pulse.stood() - s.stood)
}

const (
	// pulseInterval is how often a machine shows that it goes on.
	pulseInterval = 100 * time.Millisecond
	// standstill is how late that has to be to count: on two busy cores everything
	// comes a little late.
	standstill = 500 * time.Millisecond
)

// heart is a goroutine that does nothing but show that it is run.
type heart struct {
	once  sync.Once
	mu    sync.Mutex
	last  time.Time     // when it was run
	total time.Duration // of standstills before
}

var pulse heart

func (h *heart) start() {
	h.last = time.Now()
	go func() {
		for {
			time.Sleep(pulseInterval)
			h.mu.Lock()
			h.total += h.late()
			h.last = time.Now()
			h.mu.Unlock()
		}
	}()
}

// late is the standstill since the last beat; mu is held.
func (h *heart) late() time.Duration {
	if late := time.Since(h.last) - pulseInterval; late > standstill {
		return late
	}
	return 0
}

// stood is all the time so far in which the machine stood still.
func (h *heart) stood() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total + h.late()
}
