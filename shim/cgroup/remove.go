// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Remove removes the directories of the cgroup and those below it, once their
// last process has gone: the kernel refuses before. It is for what an OCI runtime
// has left that was killed while it made a container; it kills nobody.
//
// It fails with ctx's error while processes are left, and with
// ErrFailedPrecondition for the root of a hierarchy. One that is gone is no
// error.
func (c *Cgroup) Remove(ctx context.Context) error {
	if c == nil {
		return nil
	}
	if c.top {
		return fmt.Errorf("refuse to remove %s: it is the root of its hierarchy: %w", c, errdefs.ErrFailedPrecondition)
	}
	for _, dir := range c.dirs() {
		if err := removeTree(ctx, dir); err != nil {
			return fmt.Errorf("remove %s: %w", c, err)
		}
	}
	return nil
}

// dirs lists the directories that are the cgroup's own.
func (c *Cgroup) dirs() []string {
	var dirs []string
	for _, l := range c.legacy {
		if !l.top {
			dirs = append(dirs, l.dir)
		}
	}
	if c.unified != "" {
		dirs = append(dirs, c.unified)
	}
	return dirs
}

// removeTree removes dir and what is below it, children first. cgroup v1 does
// not say when a directory becomes free, so it is tried again.
func removeTree(ctx context.Context, dir string) error {
	var dirs []string
	err := walk(dir, func(d string) error {
		if _, err := os.Lstat(d); err != nil {
			return err
		}
		dirs = append(dirs, d)
		return nil
	})
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	// walk visits parents first.
	slices.Reverse(dirs)
	for _, d := range dirs {
		var b backoff
		for {
			err := unix.Rmdir(d)
			if err == nil || gone(err) {
				break
			}
			if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) {
				return &os.PathError{Op: "rmdir", Path: d, Err: err}
			}
			if werr := b.wait(ctx); werr != nil {
				return fmt.Errorf("%s is still in use: %w", d, werr)
			}
		}
	}
	return nil
}
