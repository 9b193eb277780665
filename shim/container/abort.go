// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/reaper"
)

// abort removes what a create that began then and failed may have left: what the
// OCI runtime knows of, then, since a runtime that died or hung may know of
// nothing, what is found in the container's cgroup.
func (c *Container) abort(m *made, h *handle, begun time.Time) error {
	// The runtime ends the init too, unless it gets stuck. An error means that there
	// is none.
	_ = h.signal(unix.SIGKILL)
	flight := c.set.env.Reaper.Begin()
	defer flight.End()
	return errors.Join(m.runtime.Delete(context.Background(), c.id, true), c.clearCgroup(m, flight, begun))
}

// clearCgroup ends the processes in the container's cgroup that are nobody's and
// this shim's to reap, and removes the cgroup. One that was there before is
// somebody else's; systemd collects its own.
func (c *Container) clearCgroup(m *made, flight *reaper.Flight, begun time.Time) error {
	if m.cgroupsPath == "" {
		return nil
	}
	cg, err := cgroup.Open(m.cgroupsPath)
	if err != nil {
		return nil // there is none: the common case
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.set.env.Deadlines.Control)
	defer cancel()
	if err := killStrangers(ctx, cg, flight); err != nil {
		return err
	}
	if st, err := os.Stat(cg.Dir()); err != nil || m.systemd || st.ModTime().Before(begun.Add(-clockTick)) {
		return nil
	}
	return cg.Remove(ctx)
}

// killStrangers goes over the processes until there is none that is a stranger. A
// process that is killed may leave children, which become strangers.
func killStrangers(ctx context.Context, cg *cgroup.Cgroup, flight *reaper.Flight) error {
	tick := time.NewTicker(strangersTick)
	defer tick.Stop()
	for {
		pids, err := cg.Pids()
		if err != nil {
			return nil // it is gone
		}
		killed := 0
		for _, pid := range pids {
			if flight.KillStranger(pid) {
				killed++
			}
		}
		if killed == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d processes in %s do not die: %w", killed, cg, ctx.Err())
		}
	}
}

// strangersTick paces the look at what was killed: the kernel tells of no such end.
const strangersTick = 5 * time.Millisecond

// clockTick is how far the kernel's clock for files may be behind (100 Hz).
const clockTick = 10 * time.Millisecond
