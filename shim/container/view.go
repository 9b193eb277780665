// SPDX-License-Identifier: Apache-2.0

package container

import (
	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

// Status is what the Task API calls the state of a process.
type Status int

// The states of the Task API. Unknown is a container that is being created.
const (
	Unknown Status = iota
	Created
	Running
	Stopped
	Paused
	Pausing
)

// ProcessState is a process as it was at one moment.
type ProcessState struct {
	// Status of the process.
	Status Status
	// Pid is 0 for a process that was never started.
	Pid int
	// Exit is valid when Status is Stopped.
	Exit reaper.Exit
	// Streams as the client named them.
	Streams stdio.Streams
}

// view is the container as its driver published it last. It is never changed
// after that.
type view struct {
	init    procView
	execs   map[string]procView
	freezer freezer
}

// procView is a process within a view. What h points to is written before the
// phase says that it is there.
type procView struct {
	phase phase
	pid   int
	exit  reaper.Exit
	h     *handle
}

func (m *machine) snapshot() *view {
	v := &view{init: m.init.view(), freezer: m.freezer}
	if len(m.execs) > 0 {
		v.execs = make(map[string]procView, len(m.execs))
		for id, p := range m.execs {
			v.execs[id] = p.view()
		}
	}
	return v
}

func (p *process) view() procView {
	v := procView{phase: p.phase, pid: p.pid, h: p.h}
	if p.phase >= phaseStopped {
		v.exit = p.exit
	}
	return v
}

func (v *view) process(exec string) (procView, bool) {
	if exec == "" {
		return v.init, true
	}
	p, ok := v.execs[exec]
	return p, ok
}

// status translates a phase. Execs of a frozen container are as frozen as it.
func (v *view) status(p procView) Status {
	switch p.phase {
	case phaseCreating:
		return Unknown
	case phaseStopped, phaseDeleting, phaseDeleted:
		return Stopped
	}
	switch v.freezer {
	case pausing:
		return Pausing
	case paused, resuming:
		return Paused
	}
	if p.phase == phaseCreated || p.phase == phaseStarting {
		return Created
	}
	return Running
}
