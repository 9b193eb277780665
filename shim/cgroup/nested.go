// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Leaf is the cgroup into which LeaveTop moves processes. It has the name that
// others give it who do the same: k3s, rootlesskit, Docker-in-Docker.
const Leaf = "/init"

// Vacated tells what LeaveTop did.
type Vacated struct {
	// Moved counts the processes that went to the leaf.
	Moved int
	// Controllers are those that containers can have now.
	Controllers []string
}

// LeaveTop makes the root of our cgroup namespace fit for containers. Other than
// the kernel's own root, cgroup v2 lets it either have processes or give
// controllers to its children ("no internal processes", cgroups(7)), and a
// container starts with its processes there. LeaveTop moves all of them into
// Leaf, and then hands on every controller that the root has, so that nobody
// can enter it again. Nothing above the namespace is touched.
//
// It does nothing where we see the kernel's root, on cgroup v1, and where systemd
// keeps the root empty. Every path is taken below root, which is "" for the real one.
//
// Errors: ErrFailedPrecondition when processes of another PID namespace are
// there, which cannot be moved; the kernel's, such as EROFS, when the cgroups
// are not ours to change; ctx's, when processes appear faster than they go.
func LeaveTop(ctx context.Context, root string) (Vacated, error) {
	mounts, mode, err := readMounts(root)
	if err != nil {
		return Vacated{}, fmt.Errorf("leave the root of the cgroup namespace: %w", err)
	}
	top := namespaceTop(mounts)
	if mode != Unified || top == "" {
		return Vacated{}, nil
	}
	v := Vacated{}
	for b := (backoff{}); ; {
		moved, err := empty(ctx, top, filepath.Join(top, Leaf))
		v.Moved += moved
		if err != nil {
			return v, fmt.Errorf("leave the root of the cgroup namespace, so that containers can be limited: %w", err)
		}
		v.Controllers, err = handOn(top)
		if err == nil {
			return v, nil
		}
		if errors.Is(err, unix.EBUSY) { // somebody entered, as an exec into our container does
			over := b.wait(ctx)
			if over == nil {
				continue
			}
			err = errors.Join(over, err)
		}
		return v, fmt.Errorf("hand on controllers of the root of the cgroup namespace: %w", err)
	}
}

// namespaceTop returns the directory of the root of our cgroup namespace; "" if
// that is the kernel's root, or not mounted. The kernel's root has no type.
func namespaceTop(mounts []mount) string {
	for _, m := range mounts {
		if dir, ok := m.dir("/"); ok && m.v2 && fileExists(filepath.Join(dir, "cgroup.type")) {
			return dir
		}
	}
	return ""
}

// empty moves every process of one cgroup to another, those too that are forked
// meanwhile.
func empty(ctx context.Context, from, to string) (moved int, err error) {
	for b := (backoff{}); ; {
		data, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
		if err != nil {
			return moved, err
		}
		pids := strings.Fields(string(data))
		if len(pids) == 0 {
			return moved, nil
		}
		if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return moved, err
		}
		for _, pid := range pids {
			if pid == "0" {
				return moved, fmt.Errorf("processes of another PID namespace are in %s: give quoind a cgroup namespace whose root has none: %w", from, errdefs.ErrFailedPrecondition)
			}
			switch err := writeFile(to, "cgroup.procs", pid); {
			case err == nil:
				moved++
			case !errors.Is(err, unix.ESRCH):
				return moved, fmt.Errorf("move process %s to %s: %w", pid, to, err)
			}
		}
		if err := b.wait(ctx); err != nil {
			return moved, fmt.Errorf("processes keep appearing in %s: %w", from, err)
		}
	}
}

// handOn gives a cgroup's controllers to its children, one by one: that one
// cannot be given, such as cpu where a real-time process runs, is no reason to
// do without the others.
func handOn(dir string) (given []string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	var errs []error
	for name := range strings.FieldsSeq(string(data)) {
		if err := writeFile(dir, "cgroup.subtree_control", "+"+name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		given = append(given, name)
	}
	return given, errors.Join(errs...)
}
