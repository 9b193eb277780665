// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"time"

	"github.com/quoin-io/quoin/shim/container"
	"github.com/quoin-io/quoin/shim/control"
	"github.com/quoin-io/quoin/shim/events"
	"github.com/quoin-io/quoin/shim/upgrade"
)

// state is a shim at rest, as an envelope carries it to the image that goes on.
// Within a version fields are only added, and what is absent means zero.
type state struct {
	// PID of the shim.
	PID int `json:"pid"`
	// Build is the old image's, Binary the path of its executable.
	Build  control.Build `json:"build"`
	Binary string        `json:"binary"`
	// Socket is the path of the listening socket, Listener its descriptor.
	Socket   string `json:"socket"`
	Listener int    `json:"listener"`
	// Log is the bundle's log FIFO; -1 if there was none.
	Log int `json:"log"`
	// Talk is the new image's end of its talk with the guardian.
	Talk        int                 `json:"talk"`
	Connections []upgrade.ConnState `json:"connections,omitempty"`
	Containers  []container.Saved   `json:"containers,omitempty"`
	Events      events.State        `json:"events"`

	// Since format 2:

	// Started is when the first image was started.
	Started time.Time `json:"started,omitzero"`
	// Totals are the counts of all parts.
	Totals control.Totals `json:"totals,omitzero"`
}

// of returns the state as a version of the format has it.
func (s state) of(version int) state {
	if version < upgrade.V2 {
		s.Started, s.Totals = time.Time{}, control.Totals{}
	}
	return s
}

// fds are the descriptors that the next image has to inherit.
func (s *state) fds() []int {
	fds := []int{s.Listener}
	for _, fd := range []int{s.Log, s.Talk, s.Events.Spool} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	for _, c := range s.Connections {
		fds = append(fds, c.FD)
	}
	for i := range s.Containers {
		fds = append(fds, s.Containers[i].FDs()...)
	}
	return fds
}
