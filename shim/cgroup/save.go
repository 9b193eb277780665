// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// saved is a Cgroup as JSON.
type saved struct {
	Mode    string        `json:"mode"`
	Unified string        `json:"unified,omitempty"`
	Legacy  []savedLegacy `json:"legacy,omitempty"`
	Top     bool          `json:"top,omitempty"`
}

type savedLegacy struct {
	Controller string `json:"controller"`
	Dir        string `json:"dir"`
	Top        bool   `json:"top,omitempty"`
}

// MarshalJSON encodes the directories: a cgroup whose processes have ended can be
// found in no other way.
func (c *Cgroup) MarshalJSON() ([]byte, error) {
	s := saved{Mode: c.mode.String(), Unified: c.unified, Top: c.top}
	for _, d := range c.legacy {
		s.Legacy = append(s.Legacy, savedLegacy{d.controller, d.dir, d.top})
	}
	return json.Marshal(s)
}

// UnmarshalJSON is errdefs.ErrInvalidArgument for what is no cgroup.
func (c *Cgroup) UnmarshalJSON(data []byte) error {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("decode a cgroup: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	*c = Cgroup{unified: s.Unified, top: s.Top}
	for _, m := range []Mode{Legacy, Hybrid, Unified} {
		if m.String() == s.Mode {
			c.mode = m
		}
	}
	if c.mode == Unavailable {
		return fmt.Errorf("decode a cgroup: there is no mode %q: %w", s.Mode, errdefs.ErrInvalidArgument)
	}
	dirs := []string{s.Unified}
	for _, d := range s.Legacy {
		c.legacy = append(c.legacy, legacyDir{d.Controller, d.Dir, d.Top})
		dirs = append(dirs, d.Dir)
	}
	for i, dir := range dirs {
		if i == 0 && dir == "" && len(dirs) > 1 {
			continue // a cgroup of v1 alone
		}
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("decode a cgroup: %q is no directory: %w", dir, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// OOMState is what is known of a watched cgroup's OOM kills.
type OOMState struct {
	// Kills that were read, and whether one was told of.
	Kills uint64 `json:"kills,omitempty"`
	Told  bool   `json:"told,omitempty"`
	// Parent is the cgroup above that counts as well, if there is one; ParentTold
	// are the kills of all that were watched below it, and Base what it had counted
	// beside those.
	Parent     string `json:"parent,omitempty"`
	ParentTold int64  `json:"parentTold,omitempty"`
	Base       int64  `json:"base,omitempty"`
}

// State is what Resume needs to go on; false for an id that is not watched.
func (w *OOMWatcher) State(id string) (OOMState, bool) {
	w.mu.Lock()
	watch := w.watches[id]
	w.mu.Unlock()
	if watch == nil {
		return OOMState{}, false
	}
	var s OOMState
	if p := watch.parent; p != nil {
		p.mu.Lock()
		s.Parent, s.ParentTold, s.Base = p.dir, p.told.Load(), watch.base
		p.mu.Unlock()
	}
	watch.mu.Lock()
	defer watch.mu.Unlock()
	s.Kills, s.Told = watch.kills, watch.told
	return s, true
}

// Resume is Add for a cgroup that another watcher has watched up to s. Kills since
// then are reported, also when the cgroup is gone by now.
func (w *OOMWatcher) Resume(id string, c *Cgroup, s OOMState) error {
	source, err := oomSourceOf(c)
	if errdefs.IsNotFound(err) && s.Parent != "" {
		source, err = goneSource{}, nil
	}
	if err != nil {
		return fmt.Errorf("watch %s (%s) for OOM kills: %w", id, c, err)
	}
	watch := &oomWatch{id: id, source: source, kills: s.Kills, told: s.Told, base: s.Base}
	if err := w.resume(watch, s); err != nil {
		return err
	}
	watch.look(w.onKill)
	return nil
}

func (w *OOMWatcher) resume(watch *oomWatch, s OOMState) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.arm(watch); err != nil {
		return err
	}
	if s.Parent != "" {
		p := w.parent(s.Parent, s.ParentTold)
		watch.parent = p
		p.mu.Lock()
		p.below[watch] = true
		p.mu.Unlock()
	}
	return nil
}

// goneSource is of a cgroup that is no longer there.
type goneSource struct{}

func (goneSource) fd() int                   { return -1 }
func (goneSource) events() uint32            { return 0 }
func (goneSource) kills() (uint64, oomState) { return 0, oomGone }
func (goneSource) close()                    {}
