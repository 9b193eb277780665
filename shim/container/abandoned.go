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
func (s *Set) SealAbandoned() bool { return s.sealIf((*Container).abandoned) }

// SealEnded refuses all further containers if every process of every one has ended
// and nothing of their output is still under way, and says so.
func (s *Set) SealEnded() bool { return s.sealIf((*Container).ended) }

// sealIf refuses all further containers if all are so.
func (s *Set) sealIf(so func(*Container) bool) bool {
	all := s.all()
	for _, c := range all {
		if !so(c) {
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

func (c *Container) ended() bool {
	v := c.view.Load()
	if !v.init.ended() {
		return false
	}
	for _, p := range v.execs {
		if p.phase != phaseCreated && !p.ended() {
			return false
		}
	}
	return true
}

// ended tells whether a process has, its streams included.
func (p procView) ended() bool {
	return p.phase >= phaseStopped && (p.h.finished.Load() || p.h.attached() == nil)
}
