// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"slices"
)

// Summary is what a list of containers shows of one.
type Summary struct {
	ID     string
	Bundle string
	// Pid of the init; 0 while it is being created.
	Pid    int
	Status Status
	// Execs that were not deleted yet.
	Execs int
}

// Summaries lists the containers, sorted by id.
func (s *Set) Summaries() []Summary {
	var all []Summary
	for _, c := range s.all() {
		v := c.view.Load()
		all = append(all, Summary{
			ID:     c.id,
			Bundle: c.bundle.Path(),
			Pid:    v.init.pid,
			Status: v.status(v.init),
			Execs:  len(v.execs),
		})
	}
	slices.SortFunc(all, func(a, b Summary) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// String names the status as the Task API does, in lower case.
func (s Status) String() string {
	switch s {
	case Created:
		return "created"
	case Running:
		return "running"
	case Stopped:
		return "stopped"
	case Paused:
		return "paused"
	case Pausing:
		return "pausing"
	}
	return "unknown"
}
