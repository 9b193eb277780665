// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Join moves a process into the cgroup at a path, in every mounted v1
// hierarchy or in cgroup2 on a unified host, and makes what is missing. It
// serves runc's ShimCgroup option, for the shim itself.
//
// A cgroup2 that it makes has the controllers that its parent gives to its
// children and no others: those files belong to whoever manages the parent. It
// fails with ErrInvalidArgument for "" and for a systemd-shaped path (a shim
// is no unit), with ErrFailedPrecondition when cgroup2 has no room for a
// process there, and with ErrNotFound when there is no such process.
func Join(cgroupsPath string, pid int) error { return joinIn("", cgroupsPath, pid) }

func joinIn(root, cgroupsPath string, pid int) error {
	if Shape(cgroupsPath) != Cgroupfs {
		return fmt.Errorf("join cgroup %q: write a path such as /shims, not \"slice:prefix:name\": %w", cgroupsPath, errdefs.ErrInvalidArgument)
	}
	mounts, mode, err := readMounts(root)
	if err != nil {
		return fmt.Errorf("join cgroup %s: %w", cgroupsPath, err)
	}
	target := path.Clean("/" + cgroupsPath)
	joined := map[string]bool{}
	for _, m := range mounts {
		// In the hybrid mode the controllers are what the option is for.
		if m.v2 != (mode == Unified) || joined[strings.Join(m.controllers, ",")] {
			continue
		}
		dir, ok := m.dir(target)
		if !ok {
			continue
		}
		joined[strings.Join(m.controllers, ",")] = true
		if err := enter(m.point, dir, pid); err != nil {
			return joinError(cgroupsPath, dir, pid, err)
		}
	}
	if len(joined) == 0 {
		return fmt.Errorf("join cgroup %s: no cgroup file system is mounted that has this path: %w", cgroupsPath, errdefs.ErrNotFound)
	}
	return nil
}

// enterTries bounds how often a cgroup is made that somebody removes while it is
// empty, as systemd does on cgroup v1 with what others make beside it.
const enterTries = 5

// enter makes dir where it is missing, and moves the process into it.
func enter(point, dir string, pid int) error {
	for try := 1; ; try++ {
		err := makeCgroup(point, dir)
		if err != nil {
			err = fmt.Errorf("make %s: %w", dir, err)
		} else if err = writeFile(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			err = fmt.Errorf("move process %d: %w", pid, err)
		}
		if try == enterTries || !gone(err) {
			return err
		}
	}
}

// makeCgroup makes dir and the directories between it and the mount point. A
// new v1 cpuset has no CPU and no memory node, and so takes no process, until
// both are copied from above.
func makeCgroup(point, dir string) error {
	rel, err := filepath.Rel(point, dir)
	if err != nil {
		return err
	}
	at := point
	for part := range strings.SplitSeq(rel, "/") {
		if part == "." {
			break
		}
		parent := at
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		for _, name := range [...]string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(at, name))
			// cgroup2 has the effective files too; an empty value inherits there.
			if err != nil || strings.TrimSpace(string(have)) != "" || fileExists(filepath.Join(at, "cgroup.controllers")) {
				continue
			}
			above, err := os.ReadFile(filepath.Join(parent, name))
			if err != nil {
				return err
			}
			if err := writeFile(at, name, strings.TrimSpace(string(above))); err != nil {
				return err
			}
		}
	}
	return nil
}

func joinError(cgroupsPath, dir string, pid int, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("join cgroup %s: %s hands controllers to its children, so that cgroup v2 allows no process in it; name a cgroup below it, such as %s: %w",
			cgroupsPath, dir, path.Join(cgroupsPath, "shims"), errdefs.ErrFailedPrecondition)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("join cgroup %s: %s is beside a threaded cgroup, so that it takes no process; name another cgroup: %w",
			cgroupsPath, dir, errdefs.ErrFailedPrecondition)
	case errors.Is(err, unix.ESRCH):
		return fmt.Errorf("join cgroup %s: no process %d: %w", cgroupsPath, pid, errdefs.ErrNotFound)
	}
	return fmt.Errorf("join cgroup %s: %w", cgroupsPath, err)
}

func fileExists(name string) bool { return unix.Access(name, unix.F_OK) == nil }
