// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/ledger"
	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

// Resume puts containers into an empty set that another image has parked. Nothing
// happens to them before Go, provided that the Reaper is parked. file returns the
// file of a descriptor's number, which is the set's from then on.
//
// It is errdefs.ErrInvalidArgument when the state contradicts itself. After an error
// the set is of no use.
func (s *Set) Resume(all []Saved, file func(fd int) (*os.File, error)) error {
	for i := range all {
		c, err := s.resume(&all[i], file)
		if err == nil {
			err = s.add(c)
		}
		if err != nil {
			return fmt.Errorf("resume container %q: %w", all[i].ID, err)
		}
	}
	return nil
}

func (s *Set) resume(saved *Saved, file func(fd int) (*os.File, error)) (*Container, error) {
	if err := saved.Check(); err != nil {
		return nil, err
	}
	// The directory may be gone: whoever removed it has the container's end.
	c := &Container{
		id:      saved.ID,
		set:     s,
		bundle:  bundle.At(saved.Bundle),
		m:       newMachine(saved.ID, nil),
		inbox:   make(chan event),
		parks:   make(chan *parking),
		retired: make(chan struct{}),
		settled: make(chan struct{}),
		resumed: saved,
	}
	close(c.settled)
	c.m.killOnExit = saved.KillOnExit
	if saved.Paused {
		c.m.freezer = paused
	}
	c.oomKilled.Store(saved.OOMKilled)
	c.killAsked.Store(saved.KillAsked)
	if l := saved.LastStats; l != nil {
		c.lastStats.Store(&anypb.Any{TypeUrl: l.TypeURL, Value: l.Value})
	}
	m := &made{
		options: saved.Made.Options, killOnExit: saved.KillOnExit, systemd: saved.Made.Systemd, mounted: saved.Made.Mounted,
		cgroupsPath: saved.Made.CgroupsPath, cgroup: saved.Made.Cgroup, restore: saved.Made.Restore.options(),
	}
	var err error
	if m.runtime, err = c.newRuntime(m); err != nil {
		return nil, err
	}
	c.made.Store(m)
	if c.m.init, err = c.resumeProcess(m, &saved.Init, file); err != nil {
		return nil, err
	}
	for i := range saved.Execs {
		e := &saved.Execs[i]
		p, err := c.resumeProcess(m, e, file)
		if err != nil {
			return nil, fmt.Errorf("process %q: %w", e.ID, err)
		}
		c.m.execs[e.ID] = p
	}
	c.view.Store(c.m.snapshot())
	return c, nil
}

// Check says what contradicts itself, as far as that can be seen without the
// descriptors: errdefs.ErrInvalidArgument.
func (s *Saved) Check() error {
	if err := bundle.CheckID(s.ID); err != nil {
		return fmt.Errorf("container id: %w", err)
	}
	if s.Init.ID != "" {
		return fmt.Errorf("the init is exec %q: %w", s.Init.ID, errdefs.ErrInvalidArgument)
	}
	ids := map[string]bool{"": true}
	for _, p := range append([]SavedProcess{s.Init}, s.Execs...) {
		at, known := p.phase()
		settled := at == phaseCreated || at == phaseRunning || at == phaseStopped
		if !known || !settled || (at == phaseStopped) != (p.Exit != nil) {
			return fmt.Errorf("process %q is in phase %q: %w", p.ID, p.Phase, errdefs.ErrInvalidArgument)
		}
	}
	for _, p := range s.Execs {
		if ids[p.ID] {
			return fmt.Errorf("the id of process %q is none, or not its own: %w", p.ID, errdefs.ErrInvalidArgument)
		}
		ids[p.ID] = true
	}
	return nil
}

func (s *SavedProcess) phase() (phase, bool) {
	i := slices.Index(phaseNames[:], s.Phase)
	return phase(max(i, 0)), i >= 0
}

func (c *Container) resumeProcess(m *made, s *SavedProcess, file func(fd int) (*os.File, error)) (*process, error) {
	at, _ := s.phase()
	p := &process{
		phase: at,
		id:    s.ID, restore: s.Restore, pid: s.PID, seen: s.Seen.exit(), ending: s.Ending, hurried: s.Hurried, overdue: s.Overdue,
		h: newHandle(stdio.Streams(s.Streams), s.Spec),
	}
	p.h.released, p.h.stdinEnded, p.h.size = s.Released, s.StdinEnded, s.Size
	if s.Exit != nil {
		p.exit = *s.Exit.exit()
		p.h.announce(p.exit)
	}
	if s.Process != nil {
		if err := c.reclaim(p, *s.Process, file); err != nil {
			return nil, err
		}
	}
	if s.IO == nil {
		return p, nil
	}
	var err error
	id := s.ID
	if id == "" {
		id = c.id
	}
	p.h.io, err = stdio.Resume(*s.IO, file, c.ioOptions(m.options, id))
	return p, err
}

// reclaim goes on waiting for a process.
func (c *Container) reclaim(p *process, s SavedPidfd, file func(fd int) (*os.File, error)) error {
	if s.FD < 0 {
		p.h.proc = reaper.Ended(s.PID)
		return nil
	}
	f, err := file(s.FD)
	if err != nil {
		return err
	}
	p.h.proc, err = c.set.env.Reaper.Reclaim(s.PID, f, func(e reaper.Exit) { c.post(exited{p.id, p.h, e}) })
	return err
}

// Go lets resumed containers go on. What is wrong now is told in the log: there is
// no way back.
func (s *Set) Go() {
	for _, c := range s.all() {
		if err := c.goOn(); err != nil {
			c.log().WithError(err).Error("something of the container was lost with the change of the shim's image")
		}
	}
}

func (c *Container) goOn() error {
	var errs []error
	for _, h := range c.handles() {
		io := h.attached()
		if io == nil {
			continue
		}
		errs = append(errs, io.Go())
		if io.Finishing() || h.announced() { // whether the earlier image came to call it or not
			finish{h}.perform(c)
		}
	}
	if oom, cg := c.resumed.OOM, c.resumed.Made.Cgroup; oom != nil && c.m.init.phase < phaseStopped {
		errs = append(errs, c.set.env.OOM.Resume(c.id, cg, *oom))
	}
	if d := c.resumed.OverdueIn; d > 0 {
		c.watchOverdue(d)
	}
	c.resumed = nil
	go c.run()
	return errors.Join(errs...)
}

// watchOverdue bounds how long the init's exit waits for execs.
func (c *Container) watchOverdue(d time.Duration) {
	c.overdueAt = time.Now().Add(d)
	time.AfterFunc(d, func() { c.post(execsOverdue{}) })
}

// Inherit notes, in what says who serves a container, that this process does: it has
// taken over from one that died.
func (s *Set) Inherit() error {
	self, err := s.descent()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range s.all() {
		b, err := ledger.ReadBirth(c.bundle.Path())
		if err == nil {
			b.Shim = self.Shim
			err = ledger.RecordBirth(c.bundle.Path(), b)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("container %q: %w", c.id, err))
		}
		births, err := ledger.ExecBirths(c.bundle.Path())
		errs = append(errs, err)
		for _, b := range births {
			b.Shim = self.Shim
			errs = append(errs, ledger.RecordExecBirth(c.bundle.Path(), b.Exec, b))
		}
	}
	return errors.Join(errs...)
}

// WriteShimBinary notes, in each bundle, which binary cleans up after this shim.
func (s *Set) WriteShimBinary(path string) error {
	var errs []error
	for _, c := range s.all() {
		if err := c.bundle.WriteShimBinary(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
