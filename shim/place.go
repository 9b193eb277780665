// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
)

// A shim that stayed in the cgroup of the daemon that started it would be taken
// with it: by `systemctl kill`, by a restart with a KillMode other than process,
// by an OOM kill of the service. So it gets a place of its own: under systemd a
// scope, elsewhere a cgroup beside the daemon's.
const (
	// sliceEnv is resolved by start for serve.
	sliceEnv = cgroup.SliceEnv
	// cgroupEnv is the cgroup that serve joins; set by start only.
	cgroupEnv = "QUOIN_SHIM_CGROUP"

	defaultSlice = "system.slice"
	sliceSuffix  = ".slice"
)

// placeTimeout bounds the asking of systemd, and the wait for its doing.
const placeTimeout = 10 * time.Second

// stopTimeout is how long systemd waits for a shim when it stops its scope, at
// the end of the host's run: a shim that serves containers ignores SIGTERM.
const stopTimeout = 10 * time.Second

// chooseHome decides where the serving process puts itself, as environment
// variables for it. ShimCgroup, which start has joined already, comes first; a
// slice given there means a scope in it.
func chooseHome(opts bundle.Options, facets bundle.Facets) []string {
	if opts.ShimCgroup != "" && !strings.HasSuffix(opts.ShimCgroup, sliceSuffix) {
		return nil
	}
	driver, err := cgroup.ParseDriver(os.Getenv(cgroup.DriverEnv))
	if err != nil || driver == cgroup.Unset {
		driver = cgroup.Cgroupfs
		if cgroup.ProbeInit("").SystemdRuns() {
			driver = cgroup.Systemd
		}
	}
	if driver == cgroup.Systemd {
		return []string{sliceEnv + "=" + chooseSlice(opts, facets)}
	}
	own, err := cgroup.Own()
	if err != nil || own == "/" || own == "" {
		return nil // the daemon is in no cgroup that anybody could end
	}
	return []string{cgroupEnv + "=" + path.Clean(own) + "-shims"}
}

func chooseSlice(opts bundle.Options, facets bundle.Facets) string {
	slice := os.Getenv(sliceEnv)
	if opts.ShimCgroup != "" {
		slice = path.Base(opts.ShimCgroup)
	}
	if slice == cgroup.PodSlice {
		slice = ""
		if cgroup.Shape(facets.CgroupsPath) == cgroup.Systemd {
			slice, _, _ = strings.Cut(facets.CgroupsPath, ":")
		}
	}
	if slice == "" {
		return defaultSlice
	}
	return slice
}

// settleIn moves the serving process to the place that start chose. It fails
// without consequence but a warning: the shim serves from where it is.
func (c *command) settleIn(ctx context.Context, r children) {
	slice, dir := os.Getenv(sliceEnv), os.Getenv(cgroupEnv)
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	var err error
	switch {
	case slice != "":
		err = enterScope(ctx, r, scopeName(c.id), slice)
	case dir != "":
		err = cgroup.Join(dir, os.Getpid())
	}
	if err != nil {
		log.L.WithError(err).Warn("the shim stays in the daemon's cgroup and can be ended with it")
	}
}

// children starts processes; the reaper does.
type children interface {
	Start(*exec.Cmd) error
	Wait(*exec.Cmd) error
}

// enterScope asks systemd to put this process into a new scope. It does so by
// busctl, which every systemd brings, in a process of its own: a D-Bus library
// would be paid for in every resident shim.
func enterScope(ctx context.Context, r children, name, slice string) error {
	before, err := cgroup.Own()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "busctl", scopeArgs(name, slice, os.Getpid())...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stderr = &said
	if err := r.Start(cmd); err != nil {
		return fmt.Errorf("ask systemd for scope %s: %w", name, err)
	}
	if err := r.Wait(cmd); err != nil {
		return fmt.Errorf("ask systemd for scope %s: %w: %s", name, err, strings.TrimSpace(said.String()))
	}
	// The answer is a job, which nobody tells the end of but D-Bus signals.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := cgroup.Own()
		if err != nil || now != before {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("systemd did not move the shim to scope %s: %w", name, ctx.Err())
		}
	}
}

// scopeArgs is the command line of busctl for StartTransientUnit
// (org.freedesktop.systemd1(5)).
func scopeArgs(name, slice string, pid int) []string {
	return []string{
		"--system", "--timeout=5", "--quiet", "call",
		"org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
		"StartTransientUnit", "ssa(sv)a(sa(sv))",
		name, "fail",
		"5",
		"Description", "s", "Quoin shim",
		"Slice", "s", slice,
		"PIDs", "au", "1", strconv.Itoa(pid),
		"CollectMode", "s", "inactive-or-failed",
		"TimeoutStopUSec", "t", strconv.FormatInt(stopTimeout.Microseconds(), 10),
		"0",
	}
}

// scopeName is unique on the host, by the pid, and tells whose shim it is.
func scopeName(id string) string {
	const longest = 200 // of 255 that systemd allows
	safe := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '.', r == '-':
			return r
		}
		return '_'
	}, id)
	if len(safe) > longest {
		safe = safe[:longest]
	}
	return fmt.Sprintf("quoin-shim-%s-%d.scope", safe, os.Getpid())
}

// joinCgroup moves the process that serves into the cgroup of the ShimCgroup
// option, as the runc shim does: before it serves, and failing with it.
func joinCgroup(opts bundle.Options, pid int) error {
	if opts.ShimCgroup == "" || strings.HasSuffix(opts.ShimCgroup, sliceSuffix) {
		return nil
	}
	if err := cgroup.Join(opts.ShimCgroup, pid); err != nil {
		if errors.Is(err, errdefs.ErrInvalidArgument) {
			return fmt.Errorf("the option ShimCgroup is a cgroup's path, or a slice for scopes: %w", err)
		}
		return fmt.Errorf("move the shim into its cgroup: %w", err)
	}
	return nil
}
