// SPDX-License-Identifier: Apache-2.0

package container

import (
	"time"

	"github.com/quoin-io/quoin/shim/reaper"
)

// Meter counts what happens to containers. Its methods wait for nothing.
type Meter interface {
	// Called tells of a call of an OCI runtime that has ended: how long it took,
	// and its error.
	Called(op string, took time.Duration, err error)
	// Exited tells of a process, the init or an exec, whose exit is told now.
	Exited(exec bool, e reaper.Exit)
	// OOMKilled tells of an OOM kill that is told now.
	OOMKilled()
	// Overdue tells of a step, other than a runtime's, that did not end within its
	// deadline.
	Overdue(step string)
}

// unmetered counts nothing.
type unmetered struct{}

func (unmetered) Called(string, time.Duration, error) {}
func (unmetered) Exited(bool, reaper.Exit)            {}
func (unmetered) OOMKilled()                          {}
func (unmetered) Overdue(string)                      {}
