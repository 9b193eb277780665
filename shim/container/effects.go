// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"

	"github.com/quoin-io/quoin/shim/reaper"
)

// effect is an output of the machine, performed by the container's driver in
// the order given. Operations only begin there; their results are events.
type effect interface{ perform(*Container) }

// call is a request that waits for its answer.
type call struct {
	// ctx carries the request's values. Only a create ends with its caller: the
	// result of any other operation stays true when nobody waits for it.
	ctx  context.Context
	done chan outcome // capacity 1
}

// outcome answers a call.
type outcome struct {
	pid  int
	exit reaper.Exit
	err  error
}

type (
	// startOp starts the init or an exec.
	startOp struct {
		exec    string
		restore bool
		to      *call
	}
	// deleteOp releases what an ended process holds.
	deleteOp struct {
		exec string
		to   *call
	}
	// freezeOp pauses or resumes.
	freezeOp struct {
		pause bool
		to    *call
	}
	// record puts an exit on disk.
	record struct {
		exec string
		pid  int
		exit reaper.Exit
	}
	// killInit ends an init that was never started.
	killInit struct{}
	// killAll ends what the init left behind.
	killAll struct{}
	// watchExecs bounds how long the init's exit waits for execs.
	watchExecs struct{}
	// watchStart bounds how long the init's exit waits for its start.
	watchStart struct{ h *handle }
	// announce releases those that wait for a process.
	announce struct {
		h    *handle
		exit reaper.Exit
	}
	// finish ends the output of a process that has exited.
	finish struct{ h *handle }
	// answer answers a call.
	answer struct {
		to  *call
		out outcome
	}
	// leave takes the container out of its set.
	leave struct{}
	// retire ends the container's driver.
	retire struct{}

	publish          struct{ event any }
	publishExecAdded struct{ exec string }
	publishStart     struct {
		exec string
		pid  int
	}
	publishExit struct {
		exec string
		pid  int
		exit reaper.Exit
	}
	publishDelete struct {
		pid  int
		exit reaper.Exit
	}
	publishFreeze struct{ pause bool }
)
