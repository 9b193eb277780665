// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/containerd/errdefs"
)

// parking asks a driver to stop at a moment at which all there is to know of the
// container is in its machine and its handles.
type parking struct {
	rested  chan struct{} // closed by the driver, which then waits
	resume  chan struct{} // closed by whoever asked
	waiting atomic.Pointer[string]
}

// nudge makes the driver look again whether it can rest.
type nudge struct{}

func (nudge) apply(*machine) []effect { return nil }

// rest stops the driver if that was asked and nothing is under way.
func (c *Container) rest() {
	if c.parking == nil {
		return
	}
	if what := c.underWay(); what != "" {
		c.parking.waiting.Store(&what)
		return
	}
	close(c.parking.rested)
	<-c.parking.resume
	c.parking = nil
}

// underWay names an operation that has not ended.
func (c *Container) underWay() string {
	if c.ending != nil {
		select {
		case <-c.ending:
		default:
			return fmt.Sprintf("what is left of container %q is being ended", c.id)
		}
	}
	if what := c.m.init.underWay(); what != "" {
		return fmt.Sprintf("container %q is %s", c.id, what)
	}
	for _, p := range c.m.execs {
		if what := p.underWay(); what != "" {
			return fmt.Sprintf("process %q of container %q is %s", p.id, c.id, what)
		}
	}
	if c.m.freezer == pausing || c.m.freezer == resuming {
		return fmt.Sprintf("container %q is %s", c.id, c.m.freezer)
	}
	return ""
}

func (p *process) underWay() string {
	switch p.phase {
	case phaseCreating, phaseStarting, phaseExiting, phaseDeleting:
		return p.phase.String()
	}
	if len(p.deletes) > 0 {
		return phaseDeleting.String()
	}
	return ""
}

// park stops the driver. It is errdefs.ErrUnavailable, and names what was under way,
// when ctx ends first.
func (c *Container) park(ctx context.Context) (*parking, error) {
	p := &parking{rested: make(chan struct{}), resume: make(chan struct{})}
	select {
	case c.parks <- p:
	case <-c.retired:
		return nil, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("container %q is busy: %w: %w", c.id, ctx.Err(), errdefs.ErrUnavailable)
	}
	select {
	case <-p.rested:
		return p, nil
	case <-c.retired:
		return nil, nil
	case <-ctx.Done():
		close(p.resume)
	}
	what := fmt.Sprintf("container %q is busy", c.id)
	if w := p.waiting.Load(); w != nil {
		what = *w
	}
	return nil, fmt.Errorf("%s: %w: %w", what, ctx.Err(), errdefs.ErrUnavailable)
}

// Park brings all containers to rest and returns what they are, for Resume in
// another image. Nothing may be asked of the set meanwhile but Wait, and the Reaper
// must have been parked. Nothing happens to the containers until Unpark.
//
// It is errdefs.ErrUnavailable, names what is under way, and leaves everything as it
// was, when that does not end before ctx does.
func (s *Set) Park(ctx context.Context) (_ []Saved, err error) {
	defer func() {
		if err != nil {
			s.Unpark()
		}
	}()
	for _, c := range s.all() {
		p, err := c.park(ctx)
		if err != nil {
			return nil, err
		}
		if p != nil {
			s.parked = append(s.parked, parked{c, p})
		}
	}
	var all []Saved
	for _, p := range s.parked {
		saved, err := p.c.save(ctx)
		if err != nil {
			return nil, fmt.Errorf("save container %q: %w", p.c.id, err)
		}
		all = append(all, saved)
	}
	return all, nil
}

// Unpark goes on after Park.
func (s *Set) Unpark() {
	for _, p := range s.parked {
		for _, h := range p.c.handles() {
			if io := h.attached(); io != nil {
				io.Unpark()
			}
		}
		close(p.parking.resume)
	}
	s.parked = nil
}

// parked is a container whose driver waits.
type parked struct {
	c       *Container
	parking *parking
}

// handles of the init and of the execs; the driver has to be parked.
func (c *Container) handles() []*handle {
	all := []*handle{c.m.init.h}
	for _, p := range c.m.execs {
		all = append(all, p.h)
	}
	return all
}
