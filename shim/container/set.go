// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/ledger"
)

// Set is the containers of one shim, by id.
type Set struct {
	env     Env
	descent func() (ledger.Birth, error) // of all its processes

	mu     sync.Mutex
	byID   map[string]*Container // guarded by mu
	sealed bool                  // guarded by mu

	parked []parked // between Park and Unpark
}

// NewSet returns an empty set whose containers share env.
func NewSet(env Env) *Set {
	if env.Meter == nil {
		env.Meter = unmetered{}
	}
	return &Set{env: env, descent: sync.OnceValues(descent), byID: make(map[string]*Container)}
}

// Get returns a container. It is ErrNotFound when there is none of that id.
func (s *Set) Get(id string) (*Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.byID[id]
	if !ok {
		return nil, fmt.Errorf("container %q is not created: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

func (s *Set) all() []*Container {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Container, 0, len(s.byID))
	for _, c := range s.byID {
		all = append(all, c)
	}
	return all
}

// Len counts the containers, those that are being created included.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

// Seal refuses all further containers if there is none now, and says so. It
// makes the decision to end the shim safe against a create that comes late.
func (s *Set) Seal() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byID) == 0 {
		s.sealed = true
	}
	return s.sealed
}

func (s *Set) add(c *Container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		return fmt.Errorf("the shim is shutting down and takes no container %q: %w", c.id, errdefs.ErrUnavailable)
	}
	if _, ok := s.byID[c.id]; ok {
		return fmt.Errorf("container %q: %w", c.id, errdefs.ErrAlreadyExists)
	}
	s.byID[c.id] = c
	return nil
}

func (s *Set) remove(c *Container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[c.id] == c {
		delete(s.byID, c.id)
	}
}
