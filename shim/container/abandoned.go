// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"io/fs"
	"os"
)

// SealAbandoned refuses all further containers if every one has ended and has lost
// its bundle, and says so. A daemon that gave up on a shim that did not answer,
// because it was stopped, has cleaned up after it: nobody will ever delete these.
func (s *Set) SealAbandoned() bool {
	all := s.all()
	for _, c := range all {
		if !c.abandoned() {
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byID) > len(all) {
		return false // one came meanwhile
	}
	for _, c := range all {
		if s.byID[c.id] != c {
			return false // somebody deletes them after all
		}
	}
	s.sealed = true
	return true
}

func (c *Container) abandoned() bool {
	if c.view.Load().init.phase < phaseStopped {
		return false
	}
	_, err := os.Lstat(c.bundle.Path())
	return errors.Is(err, fs.ErrNotExist)
}
