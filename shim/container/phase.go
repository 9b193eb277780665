// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
)

// phase is where a process is in its life. The transitions, all of them:
//
//	creating → created | deleted
//	created  → starting | exiting | deleting
//	starting → running | created | stopped
//	running  → exiting
//	exiting  → stopped
//	stopped  → deleting
//	deleting → deleted | created | stopped
//	deleted  →
//
// starting → stopped is an exec that could not be started; created → deleting is
// an exec, or a checkpoint, that never was.
type phase uint8

const (
	phaseCreating phase = iota // the OCI runtime makes it
	phaseCreated               // it waits to be started
	phaseStarting              // the OCI runtime starts it
	phaseRunning
	phaseExiting // it is dead; its exit is not on record yet
	phaseStopped // its exit is on record and has been told
	phaseDeleting
	phaseDeleted
)

var phaseNames = [...]string{"creating", "created", "starting", "running", "exiting", "stopped", "deleting", "deleted"}

func (p phase) String() string { return phaseNames[p] }

var transitions = [...][]phase{
	phaseCreating: {phaseCreated, phaseDeleted},
	phaseCreated:  {phaseStarting, phaseExiting, phaseDeleting},
	phaseStarting: {phaseRunning, phaseCreated, phaseStopped},
	phaseRunning:  {phaseExiting},
	phaseExiting:  {phaseStopped},
	phaseStopped:  {phaseDeleting},
	phaseDeleting: {phaseDeleted, phaseCreated, phaseStopped},
	phaseDeleted:  {},
}

func (p phase) allows(next phase) bool { return slices.Contains(transitions[p], next) }

// freezer is whether the container's processes are frozen.
type freezer uint8

const (
	thawed freezer = iota
	pausing
	paused
	resuming
)

var freezerNames = [...]string{"running", "pausing", "paused", "resuming"}

func (f freezer) String() string { return freezerNames[f] }

// StateError refuses what a process's state does not allow. It unwraps to an
// errdefs class: ErrNotFound for what has been deleted, ErrFailedPrecondition
// otherwise.
type StateError struct {
	Container string
	Process   string // exec id, "" for the init
	State     string
	Action    string // "start", "delete", …
}

func (e *StateError) Error() string {
	who := fmt.Sprintf("container %q", e.Container)
	if e.Process != "" {
		who = fmt.Sprintf("process %q of container %q", e.Process, e.Container)
	}
	return fmt.Sprintf("%s is %s: cannot %s it: %v", who, e.State, e.Action, e.Unwrap())
}

// Unwrap returns the errdefs class.
func (e *StateError) Unwrap() error {
	if e.State == phaseDeleted.String() {
		return errdefs.ErrNotFound
	}
	return errdefs.ErrFailedPrecondition
}
