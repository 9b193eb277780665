// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
)

// gate lets reaping through, or holds it up: a child that is not reaped is there
// for the next image of this process, with its status.
type gate struct {
	mu     sync.Mutex
	shut   chan struct{} // guarded by mu; closed when the gate opens; nil while it is open
	inside int           // guarded by mu
	empty  chan struct{} // guarded by mu; closed when inside gets 0; nil if nobody waits
}

// enter waits until the gate is open. leave must follow.
func (g *gate) enter() {
	for {
		g.mu.Lock()
		shut := g.shut
		if shut == nil {
			g.inside++
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		<-shut
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close shuts the gate and waits for those inside. When ctx ends first it is open
// again.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.open()
		return fmt.Errorf("an exit is still being taken: %w: %w", ctx.Err(), errdefs.ErrUnavailable)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}
