// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Kill sends a signal to every process of the cgroup and of those below it.
//
// For SIGKILL it returns once no process is left, or with ctx's error: it uses
// cgroup.kill where the kernel has it (5.14) and otherwise goes over the
// processes until none is left, so that children forked meanwhile are found.
// Processes that cgroup v1 has frozen are thawed, since they could not die.
// For any other signal it returns once each process was signalled.
//
// It fails with ErrNotFound when the cgroup is gone, and with
// ErrFailedPrecondition, doing nothing, for the root of a hierarchy and for a
// cgroup that holds the calling process.
func (c *Cgroup) Kill(ctx context.Context, signal unix.Signal) error {
	pids, err := c.victims("kill")
	if err != nil {
		return err
	}
	if signal != unix.SIGKILL {
		return c.signal(ctx, pids, signal)
	}
	if err := c.killAll(ctx, pids, c.killFile()); err != nil {
		return fmt.Errorf("kill the processes of %s: %w", c, err)
	}
	return nil
}

// victims lists the processes that an operation on the whole cgroup hits, and
// refuses when that would be the host or ourselves.
func (c *Cgroup) victims(doing string) ([]int, error) {
	if c == nil {
		return nil, c.notFound(doing)
	}
	if c.top {
		return nil, fmt.Errorf("refuse to %s %s: it is the root of its hierarchy, not a container's cgroup: %w", doing, c, errdefs.ErrFailedPrecondition)
	}
	pids, err := c.Pids()
	if err != nil {
		return nil, err
	}
	if slices.Contains(pids, os.Getpid()) {
		return nil, fmt.Errorf("refuse to %s %s: it holds this process (%d) too: %w", doing, c, os.Getpid(), errdefs.ErrFailedPrecondition)
	}
	return pids, nil
}

// signal goes over the processes until no unknown one turns up.
func (c *Cgroup) signal(ctx context.Context, pids []int, signal unix.Signal) error {
	seen := make(map[int]struct{}, len(pids))
	var first error
	for fresh := true; fresh; {
		fresh = false
		for _, pid := range pids {
			if _, ok := seen[pid]; ok {
				continue
			}
			seen[pid] = struct{}{}
			fresh = true
			if err := unix.Kill(pid, signal); err != nil && err != unix.ESRCH && first == nil {
				first = fmt.Errorf("send signal %d to process %d of %s: %w", int(signal), pid, c, err)
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("signal the processes of %s: %w", c, err)
		}
		var err error
		if pids, err = c.Pids(); err != nil {
			if errdefs.IsNotFound(err) {
				break // the last one ended, and the cgroup was removed
			}
			return err
		}
	}
	return first
}

// killAll waits for all to end; sent says that cgroup.kill was written.
func (c *Cgroup) killAll(ctx context.Context, pids []int, sent bool) error {
	c.thawFrozen()
	if !sent || c.mode != Unified {
		if err := c.killEach(ctx, pids); err != nil {
			return err
		}
	}
	if c.mode != Unified {
		return nil
	}
	// A process leaves cgroup.procs a moment before it leaves the cgroup.
	if err := waitEvents(ctx, c.unified, "populated", 0); !gone(err) {
		return err
	}
	return nil
}

// killEach goes over the processes until none is left. A process that has the
// signal pending cannot fork, so each pass leaves fewer that can.
func (c *Cgroup) killEach(ctx context.Context, pids []int) error {
	for b := (backoff{}); len(pids) > 0; {
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		c.thawFrozen()
		if err := b.wait(ctx); err != nil {
			return fmt.Errorf("%d left, the first is %d: %w", len(pids), pids[0], err)
		}
		var err error
		if pids, err = c.Pids(); errdefs.IsNotFound(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// killFile writes cgroup.kill, which reaches every process at once, those that
// are being forked too. It reports whether the kernel took it. In the hybrid
// mode it works as well, when the runtime made a cgroup there.
func (c *Cgroup) killFile() bool {
	return c.unified != "" && writeFile(c.unified, "cgroup.kill", "1") == nil
}

// thawFrozen lets the processes run that the v1 freezer stopped: they have a
// SIGKILL pending and die at once. In cgroup v2 a frozen process can be killed.
func (c *Cgroup) thawFrozen() {
	d, ok := c.controller("freezer")
	if !ok || d.top {
		return
	}
	_ = walk(d.dir, func(dir string) error {
		f := openFiles(dir, make([]byte, 32))
		defer f.close()
		if s := string(f.read("freezer.state")); s != "" && s != "THAWED\n" {
			return writeFile(dir, "freezer.state", "THAWED")
		}
		return nil
	})
}

// writeFile writes a cgroup file in one write and never creates it.
func writeFile(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
