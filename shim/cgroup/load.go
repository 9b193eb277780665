// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Cgroup names the directories of one cgroup, in every hierarchy that the
// process it was loaded from belongs to. It is immutable, holds no descriptor
// and may be used concurrently. A directory that was removed and made anew
// under the same name is taken for the same cgroup.
type Cgroup struct {
	mode Mode
	// unified is the directory in cgroup2; "" when there is none, and in the
	// hybrid mode also when it is the top, or not that of the v1 directories.
	unified string
	// legacy are the v1 directories.
	legacy []legacyDir
	// top says that the cgroup is the root of its hierarchies: whatever is
	// done to it is done to the whole host, or cgroup namespace.
	top bool
}

type legacyDir struct {
	controller string
	dir        string
	top        bool
}

// Load finds the cgroup of a process. It fails with ErrNotFound when there is
// no such process, when its cgroup was removed or lies outside the visible
// hierarchies, and, on cgroup v1, when the process is a zombie: the kernel
// then shows the root in place of the cgroup it was in.
func Load(pid int) (*Cgroup, error) { return loadIn("", pid) }

// Open finds the cgroup at a cgroupfs path ("/kubepods/pod1/c1") or at a
// systemd-shaped one ("slice:prefix:name", under the directory that systemd
// gives it), as far as it exists in the mounted hierarchies. It fails with
// ErrNotFound when it exists in none.
func Open(cgroupsPath string) (*Cgroup, error) { return OpenIn("", cgroupsPath) }

func loadIn(root string, pid int) (*Cgroup, error) {
	members, err := readMemberships(root, strconv.Itoa(pid))
	if err != nil {
		return nil, fmt.Errorf("load the cgroup of process %d: %w", pid, err)
	}
	if c := loadFast(root, pid, members); c != nil {
		return c, nil
	}
	mounts, mode, err := readMounts(root)
	if err != nil {
		return nil, fmt.Errorf("load the cgroup of process %d: %w", pid, err)
	}
	c := resolve(mounts, mode, members)
	switch {
	case c == nil:
		return nil, fmt.Errorf("process %d has no cgroup in the %s hierarchies that are mounted: %w", pid, mode, errdefs.ErrNotFound)
	case c.mode != Unified && c.top && isZombie(root, pid):
		return nil, fmt.Errorf("process %d has ended, so that cgroup v1 does not show its cgroup any more: %w", pid, errdefs.ErrNotFound)
	}
	return c, nil
}

// loadFast spares the reading of mountinfo, which has a line for each mount of
// the node: when cgroup2 is mounted in its usual place, the path is tried as it
// stands, and believed if the process is really listed there.
func loadFast(root string, pid int, members []membership) *Cgroup {
	if !isUnified(root+mountPoint) || len(members) != 1 || members[0].deleted || members[0].path == "/" {
		return nil
	}
	dir := filepath.Join(root+mountPoint, members[0].path)
	pids, err := readPids(dir)
	if err != nil || !slices.Contains(pids, pid) {
		return nil
	}
	return &Cgroup{mode: Unified, unified: dir}
}

// OpenIn is Open below root, which stands for "/".
func OpenIn(root, cgroupsPath string) (*Cgroup, error) {
	path, err := fsPath(cgroupsPath)
	if err != nil {
		return nil, err
	}
	mounts, mode, err := readMounts(root)
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", path, err)
	}
	var members []membership
	for _, m := range mounts {
		if dir, ok := m.dir(path); ok && isDir(dir) {
			members = append(members, membership{controllers: m.controllers, path: path})
		}
	}
	c := resolve(mounts, mode, members)
	if c == nil {
		return nil, fmt.Errorf("open cgroup %s: %w", path, errdefs.ErrNotFound)
	}
	return c, nil
}

// resolve turns memberships into directories; nil when there is none.
func resolve(mounts []mount, mode Mode, members []membership) *Cgroup {
	c := &Cgroup{mode: mode, top: true}
	paths := map[string]string{} // of the directories
	for _, m := range members {
		dir, ok := lookup(mounts, m)
		if !ok || m.deleted {
			continue
		}
		top := m.path == "/"
		paths[dir] = m.path
		if len(m.controllers) > 0 {
			for _, name := range m.controllers {
				c.legacy = append(c.legacy, legacyDir{controller: name, dir: dir, top: top})
			}
		} else if mode == Unified || !top {
			c.unified = dir
		}
		c.top = c.top && top
	}
	// A runtime that does not join cgroup2 on a hybrid host leaves the process where
	// its own parent is, beside the shim or the daemon: that is not its cgroup.
	if own := c.primary(); own != "" && c.unified != "" && paths[own] != paths[c.unified] {
		c.unified = ""
	}
	if c.unified == "" && len(c.legacy) == 0 {
		return nil
	}
	return c
}

// lookup prefers mounts in the usual place: a host also shows the bind mounts
// that it made for its containers.
func lookup(mounts []mount, m membership) (string, bool) {
	found := ""
	for _, mnt := range mounts {
		if mnt.v2 != (len(m.controllers) == 0) || (!mnt.v2 && !slices.Contains(mnt.controllers, m.controllers[0])) {
			continue
		}
		dir, ok := mnt.dir(m.path)
		if !ok {
			continue
		}
		if strings.Contains(mnt.point, mountPoint) {
			return dir, true
		}
		if found == "" {
			found = dir
		}
	}
	return found, found != ""
}

// Mode returns the mode of the host that the cgroup was loaded on.
func (c *Cgroup) Mode() Mode {
	if c == nil {
		return Unavailable
	}
	return c.mode
}

// Dir returns the directory that holds the cgroup's processes; "" for nil.
func (c *Cgroup) Dir() string {
	if c == nil {
		return ""
	}
	if c.mode == Unified {
		return c.unified
	}
	if d := c.primary(); d != "" {
		return d
	}
	return c.unified
}

// String names the cgroup in errors and logs.
func (c *Cgroup) String() string {
	if c == nil {
		return "no cgroup"
	}
	return c.Dir()
}

// Exists reports whether a directory of the cgroup is left. On cgroup v1 the
// directories vanish one after the other; it exists until all are gone.
func (c *Cgroup) Exists() bool {
	if c == nil {
		return false
	}
	if c.mode == Unified {
		return isDir(c.unified)
	}
	own := false
	for _, d := range c.legacy {
		if d.top {
			continue
		}
		own = true
		if isDir(d.dir) {
			return true
		}
	}
	if c.unified != "" {
		own = true
		if isDir(c.unified) {
			return true
		}
	}
	return !own
}

// primary returns the v1 directory that is used to list processes: the first
// of those that the runtimes always give to a container.
func (c *Cgroup) primary() string {
	for _, name := range [...]string{"freezer", "devices", "pids", "memory", "cpu", "name=systemd"} {
		for _, d := range c.legacy {
			if d.controller == name && !d.top {
				return d.dir
			}
		}
	}
	for _, d := range c.legacy {
		if !d.top {
			return d.dir
		}
	}
	if len(c.legacy) > 0 && c.unified == "" {
		return c.legacy[0].dir
	}
	return ""
}

// controller returns the v1 directory of a controller.
func (c *Cgroup) controller(name string) (legacyDir, bool) {
	for _, d := range c.legacy {
		if d.controller == name {
			return d, true
		}
	}
	return legacyDir{}, false
}

func isDir(name string) bool {
	var st unix.Stat_t
	return unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func isZombie(root string, pid int) bool {
	data, err := os.ReadFile(filepath.Join(root+"/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	// The name may hold parentheses and spaces: the state follows the last one.
	s := string(data)
	i := strings.LastIndexByte(s, ')')
	return i < 0 || i+2 >= len(s) || s[i+2] == 'Z' || s[i+2] == 'X'
}
