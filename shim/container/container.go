// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/reaper"
	"github.com/quoin-io/quoin/shim/stdio"
)

// Publisher takes events for the daemon. Publish never blocks and keeps the
// order of its calls.
type Publisher interface {
	Publish(topic string, event any, at time.Time)
}

// OOMWatch tells of OOM kills. The cgroup package's OOMWatcher is one.
type OOMWatch interface {
	Add(id string, c *cgroup.Cgroup) error
	Check(id string) bool
	Ended(id string) bool
	Remove(id string)
	// State and Resume carry a watch to another image.
	State(id string) (cgroup.OOMState, bool)
	Resume(id string, c *cgroup.Cgroup, s cgroup.OOMState) error
}

// Env is what all containers of a shim share.
type Env struct {
	// Namespace is containerd's.
	Namespace string
	// Reaper owns the shim's children.
	Reaper *reaper.Reaper
	// Publisher takes the events.
	Publisher Publisher
	// OOM watches the containers' cgroups and calls Set.OOMKilled.
	OOM OOMWatch
	// Meter counts; nil means that nobody does.
	Meter Meter
	// Used is told of the OCI runtime that has made a container; nil for nobody. It
	// must not block.
	Used func(*oci.Runtime)
	// Known remembers what OCI runtimes can do.
	Known *oci.Known
	// Host is what placement goes by when the daemon did not say.
	Host cgroup.Facts
	// Driver is the node's cgroup driver as the daemon told it, or Unset.
	Driver cgroup.Driver
	// Deadlines of all that can get stuck; all fields set.
	Deadlines config.Deadlines
	// LoggerDirs are where binary loggers may be; empty means anywhere.
	LoggerDirs []string
	// RuntimeRoot holds the OCI runtime's state, one directory per namespace,
	// unless a task's options name another.
	RuntimeRoot string
	// SocketDir is a private directory for sockets of short paths; "" means the
	// directory for temporary files.
	SocketDir string
	// Executable is the shim's own, for whoever cleans up after it.
	Executable string
	// Home returns when the shim is in its place among the cgroups, or fails when
	// it cannot be; nil means that it is. No container is served before.
	Home func(context.Context) error
	// Manager asks systemd for a sign of life; see oci.Config. Nil asks nobody.
	Manager func(context.Context) error
}

// Container is one container of the shim. All methods are safe for concurrent
// use; none waits for an operation but the one it asks for.
type Container struct {
	id      string
	set     *Set
	bundle  *bundle.Bundle
	m       *machine // the driver's alone
	inbox   chan event
	parks   chan *parking // a request to rest
	parking *parking      // that was taken; the driver's alone
	retired chan struct{}
	settled chan struct{} // closed when the create has succeeded or failed
	view    atomic.Pointer[view]
	made    atomic.Pointer[made]

	// ending is closed when what the init has left behind has been ended; nil while
	// nobody ends it. The init's delete waits for it: no cgroup can be removed
	// before. The driver's alone.
	ending <-chan struct{}
	// overdueAt is when the init's exit stops waiting for execs; the driver's alone.
	overdueAt time.Time
	resumed   *Saved // between Resume and Go

	oomKilled atomic.Bool
	// killAsked says that somebody wanted the init dead.
	killAsked atomic.Bool
	lastStats atomic.Pointer[anypb.Any] // of a cgroup that vanished with its last process
}

// made is what a create made; it does not change afterwards, but for the cgroup
// of a restored container.
type made struct {
	options    bundle.Options
	runtime    *oci.Runtime
	killOnExit bool
	systemd    bool // systemd placed it, so the cgroup goes with its last process
	mounted    bool // the rootfs is mounted in the bundle
	// cgroupsPath is what the OCI runtime was told.
	cgroupsPath string
	restore     *oci.RestoreOptions
	cgroup      *cgroup.Cgroup // nil when the process is in none
}

// ID of the container.
func (c *Container) ID() string { return c.id }

// Bundle is the path of the container's bundle.
func (c *Container) Bundle() string { return c.bundle.Path() }

func (c *Container) log() *log.Entry { return log.L.WithField("container", c.id) }

// ready returns what the create made, or ErrFailedPrecondition while it is
// under way.
func (c *Container) ready() (*made, error) {
	m := c.made.Load()
	if m == nil || c.view.Load().init.phase == phaseCreating {
		return nil, fmt.Errorf("container %q is being created: %w", c.id, errdefs.ErrFailedPrecondition)
	}
	return m, nil
}

func (c *Container) process(exec string) (*view, procView, error) {
	v := c.view.Load()
	p, ok := v.process(exec)
	if !ok {
		return nil, procView{}, fmt.Errorf("process %q of container %q does not exist: %w", exec, c.id, errdefs.ErrNotFound)
	}
	return v, p, nil
}

// State returns the state of the init ("") or of an exec, at once.
func (c *Container) State(exec string) (ProcessState, error) {
	v, p, err := c.process(exec)
	if err != nil {
		return ProcessState{}, err
	}
	return ProcessState{Status: v.status(p), Pid: p.pid, Exit: p.exit, Streams: p.h.streams}, nil
}

// Wait waits for the exit of the init ("") or of an exec, or for ctx. It is
// ErrNotFound once the container is deleted and the process has no exit to tell:
// its create failed, or it is an exec that went with its container.
func (c *Container) Wait(ctx context.Context, exec string) (reaper.Exit, error) {
	_, p, err := c.process(exec)
	if err != nil {
		return reaper.Exit{}, err
	}
	select {
	case <-p.h.done:
		return p.h.exit, nil
	case <-ctx.Done():
		return reaper.Exit{}, ctx.Err()
	case <-c.retired:
	}
	select {
	case <-p.h.done:
		return p.h.exit, nil
	default:
		return reaper.Exit{}, c.gone().err
	}
}

// Start starts the init ("") or an exec and returns its pid.
func (c *Container) Start(ctx context.Context, exec string) (int, error) {
	out := c.ask(ctx, func(to *call) event { return startRequest{exec, to} })
	return out.pid, out.err
}

// ExecConfig describes an exec.
type ExecConfig struct {
	ID string
	// Spec is the OCI process as JSON.
	Spec    []byte
	Streams stdio.Streams
}

// Exec adds a process that Start starts.
func (c *Container) Exec(ctx context.Context, cfg ExecConfig) error {
	if err := bundle.CheckID(cfg.ID); err != nil {
		return fmt.Errorf("exec id: %w", err)
	}
	if err := bundle.CheckProcess(cfg.Spec); err != nil {
		return fmt.Errorf("process %q of container %q: %w", cfg.ID, c.id, err)
	}
	h := newHandle(cfg.Streams, cfg.Spec)
	return c.ask(ctx, func(to *call) event { return execRequest{cfg.ID, h, to} }).err
}

// Delete releases an ended process and returns its last state. Deleting the
// init ("") deletes the container.
func (c *Container) Delete(ctx context.Context, exec string) (ProcessState, error) {
	out := c.ask(ctx, func(to *call) event { return deleteRequest{exec, to} })
	return ProcessState{Status: Stopped, Pid: out.pid, Exit: out.exit}, out.err
}

// Pause freezes the container's processes.
func (c *Container) Pause(ctx context.Context) error {
	return c.ask(ctx, func(to *call) event { return freezeRequest{true, to} }).err
}

// Resume lets them run again.
func (c *Container) Resume(ctx context.Context) error {
	return c.ask(ctx, func(to *call) event { return freezeRequest{false, to} }).err
}

// Resize sets the size of a process's terminal; without a terminal it does
// nothing.
func (c *Container) Resize(exec string, width, height uint16) error {
	_, p, err := c.process(exec)
	if err != nil {
		return err
	}
	if p.phase >= phaseExiting {
		return &StateError{Container: c.id, Process: exec, State: p.phase.String(), Action: "resize"}
	}
	return p.h.resize(width, height)
}

// CloseStdin ends a process's standard input once what was written is read.
func (c *Container) CloseStdin(exec string) error {
	_, p, err := c.process(exec)
	if err != nil {
		return err
	}
	return p.h.closeStdin()
}
