// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quoin-io/quoin/shim/reaper"
)

// callNames gives calls a name to be told by.
type callNames map[*call]string

// add makes a call and names it after the request and its number.
func (n callNames) add(request string) *call {
	to := &call{}
	n[to] = fmt.Sprintf("%s#%d", request, len(n)+1)
	return to
}

// describe says an effect in one line.
func (n callNames) describe(e effect, who func(*handle) string) string {
	switch e := e.(type) {
	case startOp:
		if e.restore {
			return "run restore for " + n[e.to]
		}
		return "run start of " + named(e.exec) + " for " + n[e.to]
	case deleteOp:
		return "run delete of " + named(e.exec) + " for " + n[e.to]
	case freezeOp:
		return "run " + freezeRequest(e).action() + " for " + n[e.to]
	case record:
		return fmt.Sprintf("record %s pid %d %s", named(e.exec), e.pid, ended(e.exit))
	case killInit:
		return "kill the init"
	case killAll:
		return "kill all that is left"
	case watchExecs:
		return "bound the wait for execs"
	case watchStart:
		return "bound the wait for the start of " + who(e.h)
	case announce:
		return "announce " + who(e.h) + " " + ended(e.exit)
	case finish:
		return "finish the output of " + who(e.h)
	case answer:
		return n.describeAnswer(e)
	case leave:
		return "leave the set"
	case retire:
		return "retire"
	case publish:
		return "publish create"
	case publishExecAdded:
		return "publish exec added " + e.exec
	case publishStart:
		return fmt.Sprintf("publish start of %s pid %d", named(e.exec), e.pid)
	case publishExit:
		return fmt.Sprintf("publish exit of %s pid %d %s", named(e.exec), e.pid, ended(e.exit))
	case publishDelete:
		return fmt.Sprintf("publish delete pid %d %s", e.pid, ended(e.exit))
	case publishFreeze:
		return "publish " + freezeRequest{pause: e.pause}.action()
	}
	return fmt.Sprintf("%T has no description", e)
}

func (n callNames) describeAnswer(a answer) string {
	text := "answer " + n[a.to]
	if a.out.err != nil {
		return text + ": " + a.out.err.Error()
	}
	if a.out.pid != 0 {
		text += fmt.Sprintf(" pid %d", a.out.pid)
	}
	if a.out.exit != (reaper.Exit{}) {
		text += " " + ended(a.out.exit)
	}
	return text
}

func named(exec string) string {
	if exec == "" {
		return "init"
	}
	return exec
}

func ended(e reaper.Exit) string { return fmt.Sprintf("status %d", e.Status) }

// describeState says where the processes are, in one line.
func (m *machine) describeState() string {
	parts := []string{"init " + m.init.phase.String()}
	for _, id := range slices.Sorted(maps.Keys(m.execs)) {
		parts = append(parts, id+" "+m.execs[id].phase.String())
	}
	if m.freezer != thawed {
		parts = append(parts, m.freezer.String())
	}
	return strings.Join(parts, ", ")
}
