// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"

	"github.com/quoin-io/quoin/shim/reaper"
)

// world is what surrounds a machine: clients that ask, a runtime that does what
// it is told, or fails, and processes that end when they like. What it does next
// is chosen from outside; it looks at every effect, and says what is wrong with
// one. A world cannot do what a real one cannot: no operation has two results.
type world struct {
	m     *machine
	calls callNames
	trace []string

	creating *call
	restore  bool
	alive    []*body // processes that exist and whose exit was not told to the machine
	bodies   map[*handle]*body
	open     map[*call]bool // not answered yet
	starts   map[string]startOp
	deletes  map[string]deleteOp
	freezes  []freezeOp
	records  map[string]record
	timers   int // of execs overdue

	hurried    bool // the start of the init is given up soon
	initExited bool // the machine was told
	overdue    bool
	retired    bool
	nextPid    int
	edges      map[[2]phase]bool
	happened   map[string]bool // effects, by their type
}

// body is one process, or the lack of one.
type body struct {
	exec      string
	h         *handle
	pid       int
	exit      reaper.Exit
	exited    bool // the machine was told
	unwanted  bool // its start failed: it is nobody's
	asked     bool // its exit was given to be recorded
	recorded  bool
	announced *reaper.Exit
	told      bool // its exit was published
	started   bool // its start was published
}

var errInjected = errors.New("injected")

func newWorld() *world {
	h := newHandle(Streams{}, nil)
	w := &world{
		m: newMachine("c", h), calls: callNames{}, bodies: map[*handle]*body{}, open: map[*call]bool{},
		starts: map[string]startOp{}, deletes: map[string]deleteOp{}, records: map[string]record{},
		nextPid: 100, edges: map[[2]phase]bool{}, happened: map[string]bool{},
	}
	w.bodies[h] = &body{h: h}
	w.creating = w.ask("create")
	return w
}

func (w *world) ask(name string) *call {
	to := w.calls.add(name)
	w.open[to] = true
	return to
}

func (w *world) body(exec string) *body {
	p, err := w.m.process(exec)
	if err != nil {
		return nil
	}
	return w.bodies[p.h]
}

// spawn makes a process for an exec or the init.
func (w *world) spawn(exec string) *body {
	b := w.body(exec)
	w.nextPid++
	b.pid = w.nextPid
	b.exit = reaper.Exit{Status: w.nextPid % 251}
	w.alive = append(w.alive, b)
	return b
}

// tell gives the machine an event and checks what comes of it.
func (w *world) tell(name string, ev event) error {
	w.trace = append(w.trace, name)
	before := map[*handle]phase{w.m.init.h: w.m.init.phase}
	for _, p := range w.m.execs {
		before[p.h] = p.phase
	}
	effects := w.m.step(ev)
	for _, e := range effects {
		w.trace = append(w.trace, "\t"+w.calls.describe(e, func(h *handle) string { return named(w.bodies[h].exec) }))
		w.happened[fmt.Sprintf("%T", e)] = true
		if w.retired {
			return fmt.Errorf("%T after retire", e)
		}
		if err := w.check(e); err != nil {
			return fmt.Errorf("%T: %w", e, err)
		}
	}
	w.trace = append(w.trace, "\t= "+w.m.describeState())
	after := map[*handle]phase{w.m.init.h: w.m.init.phase}
	for _, p := range w.m.execs {
		after[p.h] = p.phase
	}
	for h, from := range before {
		to, exists := after[h]
		if !exists {
			to = phaseDeleted
		}
		if err := w.moved(from, to); err != nil {
			return fmt.Errorf("%s: %w", named(w.bodies[h].exec), err)
		}
	}
	return w.settled()
}

// moved checks that a way of at most three transitions of the table leads from
// one phase to another: one event can do as much, as when a start's result finds
// that the process has ended.
func (w *world) moved(from, to phase) error {
	if from == to {
		return nil
	}
	found := ways(from, to, 3)
	if len(found) == 0 {
		return fmt.Errorf("from %s to %s there is no way in the table", from, to)
	}
	way := found[0]
	for i := range way[1:] {
		w.edges[[2]phase{way[i], way[i+1]}] = true
	}
	return nil
}

// ways are the shortest first.
func ways(from, to phase, most int) (found [][]phase) {
	for n := 1; n <= most && found == nil; n++ {
		var walk func(way []phase)
		walk = func(way []phase) {
			at := way[len(way)-1]
			if len(way) == n+1 {
				if at == to {
					found = append(found, append([]phase(nil), way...))
				}
				return
			}
			for _, next := range transitions[at] {
				walk(append(way[:len(way):len(way)], next))
			}
		}
		walk([]phase{from})
	}
	return found
}

// settled checks what has to be true between events.
func (w *world) settled() error {
	// Whatever hangs, an exit that is known is on its way, or has a bound.
	if _, starting := w.starts[""]; w.initExited && starting && !w.restore && !w.hurried {
		return errors.New("the exit of the init waits for a start without a bound")
	}
	if b := w.body(""); w.initExited && !b.asked && w.execsUntold() != "" && w.timers == 0 && len(w.starts) == 0 && w.creating == nil {
		return errors.New("the exit of the init waits for execs without a bound")
	}
	if w.retired != (w.m.init.phase == phaseDeleted) {
		return fmt.Errorf("retired is %v, but the init is %s", w.retired, w.m.init.phase)
	}
	seen := map[*handle]bool{w.m.init.h: true}
	for id, p := range w.m.execs {
		if p.id != id || seen[p.h] {
			return fmt.Errorf("exec %q is kept as %q, or twice", p.id, id)
		}
		seen[p.h] = true
	}
	v := w.m.snapshot()
	if got, want := v.init.exit, (reaper.Exit{}); v.init.phase < phaseStopped && got != want {
		return fmt.Errorf("the view shows an exit %+v that was not told", got)
	}
	return nil
}
