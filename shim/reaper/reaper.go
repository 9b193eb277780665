// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// Stats counts what a Reaper did since it began.
type Stats struct {
	// Claimed processes whose exit was delivered.
	Exits uint64
	// Adopted orphans that nobody claimed and that were reaped.
	Strangers uint64
}

// Reaper owns the children of this process. There is one per process.
//
// A child is in one of three hands: a process started by Start belongs to its
// exec.Cmd until Wait returned; a process claimed by Flight.Claim belongs to
// its waiter; everything else is a stranger and belongs to the janitor, which
// reaps it as soon as no create or exec that was in flight when it was first
// seen dead can still claim it. An unreaped zombie pins its pid, so a pid cannot
// be taken over by another process before its owner has asked for it.
type Reaper struct {
	mu        sync.Mutex
	owned     map[int]int                  // pid → owners, guarded by mu
	claimed   map[int]*Process             // guarded by mu
	flights   map[*Flight]struct{}         // guarded by mu
	strangers map[int]map[*Flight]struct{} // dead stranger → flights it has to outlast, guarded by mu
	stats     Stats                        // guarded by mu

	gate gate          // shut while parked
	poke chan struct{} // capacity 1: the janitor has something to look at
	stop chan struct{}
	done chan struct{}
}

// New makes this process a child subreaper (prctl(2), Linux 3.4) and starts the
// janitor. Close ends the janitor.
func New() (*Reaper, error) { return start(func(*Reaper) {}) }

func start(prepare func(*Reaper)) (*Reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the subreaper of the containers' processes: %w", err)
	}
	r := &Reaper{
		owned:     make(map[int]int),
		claimed:   make(map[int]*Process),
		flights:   make(map[*Flight]struct{}),
		strangers: make(map[int]map[*Flight]struct{}),
		poke:      make(chan struct{}, 1),
		stop:      make(chan struct{}),
		done:      make(chan struct{}),
	}
	prepare(r)
	chld := make(chan os.Signal, 1)
	signal.Notify(chld, unix.SIGCHLD)
	go r.janitor(chld)
	r.wake()
	return r, nil
}

// Close stops the janitor. Claimed processes are still waited for.
func (r *Reaper) Close() {
	close(r.stop)
	r.gate.open()
	<-r.done
}

// Stats returns the counters so far.
func (r *Reaper) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// wake makes the janitor look again; it never blocks.
func (r *Reaper) wake() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

func (r *Reaper) own(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owned[pid]++
	delete(r.strangers, pid)
}

func (r *Reaper) disown(pid int, claimed bool) {
	r.mu.Lock()
	// Counted, because the pid may have a new owner by the time the old one,
	// whose process has been reaped, comes here.
	if r.owned[pid]--; r.owned[pid] <= 0 {
		delete(r.owned, pid)
	}
	if claimed {
		r.stats.Exits++
	}
	r.mu.Unlock()
	r.wake()
}

// Begin tells that a create or an exec starts now: a process that dies from
// here on may be the one that its caller is about to claim. End must follow.
func (r *Reaper) Begin() *Flight {
	f := &Flight{r: r}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flights[f] = struct{}{}
	return f
}

// Flight is one create or exec between the moment before its process can exist
// and the moment its process has been claimed.
type Flight struct{ r *Reaper }

// End tells that the flight claims nothing more. It is idempotent.
func (f *Flight) End() {
	r := f.r
	r.mu.Lock()
	delete(r.flights, f)
	for _, waits := range r.strangers {
		delete(waits, f)
	}
	r.mu.Unlock()
	r.wake()
}
