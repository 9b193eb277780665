// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/reaper"
)

// machine decides what happens to one container. It does no I/O, knows no clock
// and starts no goroutine. Its guarantees:
//
//   - an exit is on record (effect record) before it is told (announce, publish);
//   - TaskStart comes before TaskExit: an exit that is seen while the start is
//     still under way waits for its result, which watchStart bounds;
//   - an exit is told once;
//   - the exits of execs come before the exit of the init, unless execsOverdue
//     says that waiting for them has to end;
//   - after the init has exited no exec starts;
//   - each request is answered exactly once.
type machine struct {
	id string
	// killOnExit tells that the kernel does not end the container's other
	// processes with the init: it has no PID namespace of its own.
	killOnExit bool
	init       *process
	execs      map[string]*process
	freezer    freezer
}

// process is the init or an exec. Fields belong to the machine.
type process struct {
	id       string // exec id, "" for the init
	phase    phase
	restore  bool // init of a checkpoint: it exists from its start on
	pid      int
	exit     reaper.Exit  // valid from phaseExiting on
	seen     *reaper.Exit // an exit that has to wait
	ending   bool         // the init's end has been acted upon
	hurried  bool         // its start is given up if it takes much longer
	overdue  bool         // the init's exit waits for execs no longer
	start    *call
	deletes  []*call
	fallback phase // where a failed delete returns to
	h        *handle
}

// event is an input of the machine.
type event interface{ apply(*machine) []effect }

// step applies one event.
func (m *machine) step(ev event) []effect { return ev.apply(m) }

func newMachine(id string, h *handle) *machine {
	return &machine{
		id:    id,
		init:  &process{phase: phaseCreating, h: h},
		execs: make(map[string]*process),
	}
}

func (m *machine) process(exec string) (*process, error) {
	if exec == "" {
		return m.init, nil
	}
	p, ok := m.execs[exec]
	if !ok {
		return nil, fmt.Errorf("process %q of container %q does not exist: %w", exec, m.id, errdefs.ErrNotFound)
	}
	return p, nil
}

func (m *machine) refuse(p *process, action string) *StateError {
	return &StateError{Container: m.id, Process: p.id, State: p.phase.String(), Action: action}
}

// move changes the phase if that is a transition of the table.
func (m *machine) move(p *process, next phase, action string) error {
	if !p.phase.allows(next) {
		return m.refuse(p, action)
	}
	p.phase = next
	return nil
}

// initGone tells that the init's end has been seen, told or not.
func (m *machine) initGone() bool {
	return m.init.seen != nil || m.init.phase >= phaseExiting
}

// exitSeen decides what an exit does now: it waits while an operation on the
// process is under way, and, for the init, while execs are alive.
func (m *machine) exitSeen(p *process) []effect {
	if p.seen != nil && p == m.init && p.phase == phaseStarting && !p.restore && !p.hurried {
		p.hurried = true
		return []effect{watchStart{p.h}}
	}
	if p.seen == nil || (p.phase != phaseCreated && p.phase != phaseRunning) {
		return nil
	}
	var effects []effect
	if p == m.init {
		effects = m.initEnds()
		if m.execsAlive() && !p.overdue {
			return effects
		}
	}
	p.exit, p.seen = *p.seen, nil
	p.phase = phaseExiting
	return append(effects, record{exec: p.id, pid: p.pid, exit: p.exit})
}

// initEnds ends, once, what outlives the init.
func (m *machine) initEnds() []effect {
	if m.init.ending {
		return nil
	}
	m.init.ending = true
	m.freezer = thawed
	var effects []effect
	if m.killOnExit {
		effects = append(effects, killAll{})
	}
	if m.execsAlive() {
		effects = append(effects, watchExecs{})
	}
	return effects
}

func (m *machine) execsAlive() bool {
	for _, p := range m.execs {
		switch p.phase {
		case phaseStarting, phaseRunning, phaseExiting:
			return true
		}
	}
	return false
}

// created is the result of the runtime's create.
type created struct {
	pid        int // 0 for a checkpoint that is still to be restored
	restore    bool
	killOnExit bool
	event      any // the TaskCreate to tell
	err        error
	to         *call
}

func (ev created) apply(m *machine) []effect {
	p := m.init
	if ev.err != nil {
		p.phase = phaseDeleted
		// Those that wait for an exit learn from retire that there is none.
		effects := []effect{leave{}, answer{ev.to, outcome{err: ev.err}}}
		for _, to := range p.deletes {
			effects = append(effects, answer{to, outcome{err: m.refuse(p, "delete")}})
		}
		return append(effects, retire{})
	}
	p.phase = phaseCreated
	p.pid, p.restore, m.killOnExit = ev.pid, ev.restore, ev.killOnExit
	effects := []effect{publish{ev.event}, answer{ev.to, outcome{pid: ev.pid}}}
	effects = append(effects, m.exitSeen(p)...)
	if len(p.deletes) > 0 && p.phase == phaseCreated {
		effects = append(effects, m.deleteCreated()...)
	}
	return effects
}

// startRequest asks to start the init or an exec.
type startRequest struct {
	exec string
	to   *call
}

func (ev startRequest) apply(m *machine) []effect {
	p, err := m.process(ev.exec)
	if err == nil && p != m.init {
		switch {
		case m.initGone():
			err = fmt.Errorf("container %q: its init process is not running: %w", m.id, errdefs.ErrFailedPrecondition)
		case m.freezer != thawed:
			err = &StateError{Container: m.id, State: m.freezer.String(), Action: "exec in"}
		}
	}
	// A restored process that could not be kept is being ended.
	failed := err == nil && p.restore && p.pid != 0 && p.phase == phaseCreated
	if err == nil && (failed || len(p.deletes) > 0 || p.seen != nil) {
		err = &StateError{Container: m.id, Process: p.id, State: phaseExiting.String(), Action: "start"}
	}
	if err == nil {
		err = m.move(p, phaseStarting, "start")
	}
	if err != nil {
		return []effect{answer{ev.to, outcome{err: err}}}
	}
	p.start = ev.to
	return []effect{startOp{exec: p.id, restore: p.restore, to: ev.to}}
}

// started is the result of a start.
type started struct {
	exec string
	pid  int // with an error: of the process that was made and is being ended, or 0
	err  error
	at   time.Time
}

func (ev started) apply(m *machine) []effect {
	p, err := m.process(ev.exec)
	if err != nil {
		return nil
	}
	to := p.start
	p.start = nil
	if ev.err == nil {
		p.phase, p.pid = phaseRunning, ev.pid
		effects := []effect{publishStart{exec: p.id, pid: p.pid}, answer{to, outcome{pid: p.pid}}}
		if p != m.init && p.seen == nil && m.init.ending && m.killOnExit {
			// It may have come into the container after all that was there had been killed.
			effects = append(effects, killAll{})
		}
		return append(effects, m.exitSeen(p)...)
	}
	effects := []effect{answer{to, outcome{err: ev.err}}}
	if p == m.init {
		// It waits to be started again, or is dead, which exitSeen tells. A restore
		// may have got as far as a process.
		p.phase = phaseCreated
		if ev.pid != 0 {
			p.pid = ev.pid
		}
		return append(effects, m.exitSeen(p)...)
	}
	// An exec that never ran has no exit to tell; whoever waits must not hang.
	p.phase = phaseStopped
	p.exit = reaper.Exit{Status: neverRan, At: ev.at}
	effects = append(effects, announce{p.h, p.exit})
	return append(effects, m.exitSeen(m.init)...)
}

// neverRan is the status of an exec whose start failed: what a shell and runc
// say of a command that they could not run for a reason of their own.
const neverRan = 255

// exited tells that a process has ended and was reaped. h says which process of
// that id: the exit of an exec whose start failed may come when another has
// taken its place.
type exited struct {
	exec string
	h    *handle
	exit reaper.Exit
}

func (ev exited) apply(m *machine) []effect {
	p, err := m.process(ev.exec)
	if err != nil || p.h != ev.h || p.seen != nil || p.phase >= phaseExiting {
		return nil
	}
	p.seen = &ev.exit
	return m.exitSeen(p)
}

// execsOverdue ends the wait of the init's exit for the exits of execs.
type execsOverdue struct{}

func (execsOverdue) apply(m *machine) []effect {
	m.init.overdue = true
	return m.exitSeen(m.init)
}

// recorded tells that an exit is on disk, or that it could not be put there: it
// is told all the same, since nobody else knows it.
type recorded struct{ exec string }

func (ev recorded) apply(m *machine) []effect {
	p, err := m.process(ev.exec)
	if err != nil || p.phase != phaseExiting {
		return nil
	}
	p.phase = phaseStopped
	effects := []effect{announce{p.h, p.exit}, publishExit{exec: p.id, pid: p.pid, exit: p.exit}, finish{p.h}}
	if p != m.init {
		return append(effects, m.exitSeen(m.init)...)
	}
	if len(p.deletes) > 0 {
		return append(effects, m.delete(p)...)
	}
	return effects
}
