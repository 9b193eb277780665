// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// execRequest adds an exec, which startRequest starts.
type execRequest struct {
	exec string
	h    *handle
	to   *call
}

func (ev execRequest) apply(m *machine) []effect {
	var err error
	_, exists := m.execs[ev.exec]
	switch {
	case exists:
		err = fmt.Errorf("process %q of container %q: %w", ev.exec, m.id, errdefs.ErrAlreadyExists)
	case m.freezer != thawed:
		err = &StateError{Container: m.id, State: m.freezer.String(), Action: "exec in"}
	case m.initGone(), m.init.phase < phaseCreated, m.init.restore && m.init.phase <= phaseStarting:
		err = m.refuse(m.init, "exec in")
	}
	if err != nil {
		return []effect{answer{ev.to, outcome{err: err}}}
	}
	m.execs[ev.exec] = &process{id: ev.exec, phase: phaseCreated, h: ev.h}
	return []effect{publishExecAdded{ev.exec}, answer{ev.to, outcome{}}}
}

// deleteRequest removes a process that has ended, or never started. A second
// one while the first is under way gets the same answer.
type deleteRequest struct {
	exec string
	to   *call
}

func (ev deleteRequest) apply(m *machine) []effect {
	p, err := m.process(ev.exec)
	if err != nil {
		return []effect{answer{ev.to, outcome{err: err}}}
	}
	switch {
	case p.phase == phaseDeleting, len(p.deletes) > 0:
		p.deletes = append(p.deletes, ev.to)
		return nil
	case p.phase == phaseCreating:
		// The daemon that asked for the container was restarted, most likely: it
		// is deleted once it is whole, or has come to nothing by itself.
		p.deletes = append(p.deletes, ev.to)
		return nil
	case p == m.init && p.phase == phaseCreated:
		p.deletes = append(p.deletes, ev.to)
		return m.deleteCreated()
	case p.phase == phaseCreated, p.phase == phaseStopped:
		p.deletes = append(p.deletes, ev.to)
		return m.delete(p)
	}
	return []effect{answer{ev.to, outcome{err: m.refuse(p, "delete")}}}
}

// deleteCreated deletes an init that was never started. The OCI runtime holds
// its process, unless it is still to be restored: that is ended first, so that its
// exit is seen, recorded and told like any other.
func (m *machine) deleteCreated() []effect {
	if m.init.pid == 0 {
		return m.delete(m.init)
	}
	return []effect{killInit{}}
}

func (m *machine) delete(p *process) []effect {
	p.fallback, p.phase = p.phase, phaseDeleting
	return []effect{deleteOp{exec: p.id, to: p.deletes[0]}}
}

// deleted is the result of a delete.
type deleted struct {
	exec string
	err  error
}

func (ev deleted) apply(m *machine) []effect {
	p, err := m.process(ev.exec)
	if err != nil {
		return nil
	}
	out := outcome{pid: p.pid, exit: p.exit, err: ev.err}
	var effects []effect
	switch {
	case ev.err != nil:
		p.phase = p.fallback
	case p == m.init:
		p.phase = phaseDeleted
		// A Shutdown that follows the answer must find the container gone.
		effects = append(effects, publishDelete{pid: p.pid, exit: p.exit}, leave{})
	default:
		p.phase = phaseDeleted
		delete(m.execs, p.id)
	}
	if ev.err == nil {
		// Whoever waits for a process that never ran must not hang, nor take it for
		// one that ran well.
		exit := p.exit
		if p.fallback == phaseCreated {
			exit.Status = neverRan
		}
		effects = append(effects, announce{p.h, exit})
	}
	for _, to := range p.deletes {
		effects = append(effects, answer{to, out})
	}
	p.deletes = nil
	if p == m.init && ev.err == nil {
		effects = append(effects, retire{})
	}
	return effects
}

// freezeRequest pauses the container, or resumes it.
type freezeRequest struct {
	pause bool
	to    *call
}

func (ev freezeRequest) apply(m *machine) []effect {
	var err error
	switch {
	case m.init.phase != phaseRunning || m.init.seen != nil:
		err = m.refuse(m.init, ev.action())
	case ev.pause && m.freezer == thawed:
		m.freezer = pausing
	case !ev.pause && m.freezer == paused:
		m.freezer = resuming
	default:
		err = &StateError{Container: m.id, State: m.freezer.String(), Action: ev.action()}
	}
	if err != nil {
		return []effect{answer{ev.to, outcome{err: err}}}
	}
	return []effect{freezeOp(ev)}
}

func (ev freezeRequest) action() string {
	if ev.pause {
		return "pause"
	}
	return "resume"
}

// frozen is the result of a freezeRequest.
type frozen struct {
	pause bool
	err   error
	to    *call
}

func (ev frozen) apply(m *machine) []effect {
	// The init may have ended meanwhile: then nothing is frozen any more.
	alive := m.freezer == pausing || m.freezer == resuming
	switch {
	case !alive:
	case ev.pause == (ev.err == nil):
		m.freezer = paused
	default:
		m.freezer = thawed
	}
	effects := []effect{answer{ev.to, outcome{err: ev.err}}}
	if ev.err == nil && alive {
		effects = append([]effect{publishFreeze{ev.pause}}, effects...)
	}
	return effects
}
