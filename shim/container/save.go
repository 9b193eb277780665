// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

// Saved is a container at rest, for another image. It is a part of a larger
// document whose version is its own too: within a version fields are only added,
// and what is absent means zero. Descriptors are numbers; see FDs.
type Saved struct {
	ID         string         `json:"id"`
	Bundle     string         `json:"bundle"`
	KillOnExit bool           `json:"killOnExit,omitempty"`
	Paused     bool           `json:"paused,omitempty"`
	Init       SavedProcess   `json:"init"`
	Execs      []SavedProcess `json:"execs,omitempty"`
	Made       SavedMade      `json:"made"`
	// OOM is what the watch of the cgroup knows; absent without one.
	OOM       *cgroup.OOMState `json:"oom,omitempty"`
	OOMKilled bool             `json:"oomKilled,omitempty"`
	KillAsked bool             `json:"killAsked,omitempty"`
	// LastStats are those of a cgroup that is gone.
	LastStats *SavedStats `json:"lastStats,omitempty"`
	// OverdueIn is how much longer the init's exit waits for execs, while it does.
	OverdueIn time.Duration `json:"overdueIn,omitempty"`
}

// SavedProcess is the init or an exec.
type SavedProcess struct {
	// ID of an exec; empty for the init.
	ID string `json:"id,omitempty"`
	// Phase is created, running or stopped.
	Phase   string     `json:"phase"`
	Restore bool       `json:"restore,omitempty"`
	PID     int        `json:"pid,omitempty"`
	Exit    *SavedExit `json:"exit,omitempty"`
	// Seen is an exit that is not told yet, because execs are alive.
	Seen    *SavedExit `json:"seen,omitempty"`
	Ending  bool       `json:"ending,omitempty"`
	Hurried bool       `json:"hurried,omitempty"`
	Overdue bool       `json:"overdue,omitempty"`

	Streams SavedStreams `json:"streams"`
	// Spec is the OCI process of an exec.
	Spec []byte `json:"spec,omitempty"`
	// IO is absent before the start and after the delete.
	IO *stdio.State `json:"io,omitempty"`
	// Process is absent before the start.
	Process *SavedPidfd `json:"process,omitempty"`
	// Released says that the streams are gone for good, StdinEnded and Size what was
	// asked for before they were there.
	Released   bool       `json:"released,omitempty"`
	StdinEnded bool       `json:"stdinEnded,omitempty"`
	Size       *[2]uint16 `json:"size,omitempty"`
}

// SavedPidfd is a process that the shim has claimed.
type SavedPidfd struct {
	PID int `json:"pid"`
	// FD is -1 once the process has been reaped.
	FD int `json:"fd"`
}

// SavedExit is a reaper.Exit.
type SavedExit struct {
	Status  int         `json:"status"`
	At      time.Time   `json:"at"`
	Signal  unix.Signal `json:"signal,omitempty"`
	Unknown bool        `json:"unknown,omitempty"`
}

// SavedStreams are stdio.Streams.
type SavedStreams struct {
	Stdin    string `json:"stdin,omitempty"`
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`
}

// SavedStats are statistics as the Task API has them.
type SavedStats struct {
	TypeURL string `json:"typeURL"`
	Value   []byte `json:"value"`
}

// SavedMade is what a create made.
type SavedMade struct {
	Options     bundle.Options `json:"options"`
	Systemd     bool           `json:"systemd,omitempty"`
	Mounted     bool           `json:"mounted,omitempty"`
	CgroupsPath string         `json:"cgroupsPath,omitempty"`
	Cgroup      *cgroup.Cgroup `json:"cgroup,omitempty"`
	Restore     *SavedRestore  `json:"restore,omitempty"`
}

// SavedRestore is how an init is restored from a checkpoint.
type SavedRestore struct {
	ImagePath  string `json:"imagePath"`
	ParentPath string `json:"parentPath,omitempty"`
	WorkPath   string `json:"workPath,omitempty"`
	PidFile    string `json:"pidFile,omitempty"`
	NoPivot    bool   `json:"noPivot,omitempty"`
}

// FDs are the numbers of the descriptors that the next image has to inherit.
func (s *Saved) FDs() []int {
	var fds []int
	for _, p := range append([]SavedProcess{s.Init}, s.Execs...) {
		if p.Process != nil && p.Process.FD >= 0 {
			fds = append(fds, p.Process.FD)
		}
		if p.IO != nil {
			fds = append(fds, p.IO.FDs()...)
		}
	}
	return fds
}

// save brings the streams to rest, too. The driver is parked.
func (c *Container) save(ctx context.Context) (Saved, error) {
	m := c.made.Load()
	s := Saved{
		ID: c.id, Bundle: c.bundle.Path(), KillOnExit: c.m.killOnExit, Paused: c.m.freezer == paused,
		OOMKilled: c.oomKilled.Load(), KillAsked: c.killAsked.Load(),
		Made: SavedMade{Options: m.options, Systemd: m.systemd, Mounted: m.mounted, CgroupsPath: m.cgroupsPath, Cgroup: m.cgroup},
	}
	if r := m.restore; r != nil {
		s.Made.Restore = &SavedRestore{r.ImagePath, r.ParentPath, r.WorkPath, r.PidFile, r.NoPivot}
	}
	if oom, ok := c.set.env.OOM.State(c.id); ok {
		s.OOM = &oom
	}
	if last := c.lastStats.Load(); last != nil {
		s.LastStats = &SavedStats{last.TypeUrl, last.Value}
	}
	if !c.overdueAt.IsZero() && c.m.init.seen != nil && !c.m.init.overdue {
		s.OverdueIn = max(1, time.Until(c.overdueAt))
	}
	var err error
	if s.Init, err = c.m.init.save(ctx); err != nil {
		return Saved{}, err
	}
	for _, p := range c.m.execs {
		exec, err := p.save(ctx)
		if err != nil {
			return Saved{}, fmt.Errorf("process %q: %w", p.id, err)
		}
		s.Execs = append(s.Execs, exec)
	}
	slices.SortFunc(s.Execs, func(a, b SavedProcess) int { return cmp.Compare(a.ID, b.ID) })
	return s, nil
}

func (p *process) save(ctx context.Context) (SavedProcess, error) {
	s := SavedProcess{
		ID: p.id, Phase: p.phase.String(), Restore: p.restore, PID: p.pid, Seen: saveExit(p.seen),
		Ending: p.ending, Hurried: p.hurried, Overdue: p.overdue,
		Streams: SavedStreams(p.h.streams), Spec: p.h.spec,
	}
	if p.phase == phaseStopped {
		s.Exit = saveExit(&p.exit)
	}
	h := p.h
	h.mu.Lock()
	io := h.io
	s.Released, s.StdinEnded, s.Size = h.released, h.stdinEnded, h.size
	if h.proc != nil {
		s.Process = &SavedPidfd{PID: h.proc.Pid(), FD: -1}
		if fd, ok := h.proc.Pidfd(); ok {
			s.Process.FD = fd
		}
	}
	h.mu.Unlock()
	if io == nil {
		return s, nil
	}
	state, err := io.Park(ctx)
	s.IO = &state
	return s, err
}

func saveExit(e *reaper.Exit) *SavedExit {
	if e == nil {
		return nil
	}
	s := SavedExit(*e)
	return &s
}

func (e *SavedExit) exit() *reaper.Exit {
	if e == nil {
		return nil
	}
	exit := reaper.Exit(*e)
	return &exit
}

func (r *SavedRestore) options() *oci.RestoreOptions {
	if r == nil {
		return nil
	}
	return &oci.RestoreOptions{ImagePath: r.ImagePath, ParentPath: r.ParentPath, WorkPath: r.WorkPath, PidFile: r.PidFile, NoPivot: r.NoPivot}
}
