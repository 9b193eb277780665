// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// CheckUnit fails with ErrFailedPrecondition when a process is not in the unit of
// systemd's that a cgroupsPath of its shape ("slice:prefix:name") names, or below
// it. It passes for a process that has ended, and where cgroup v1 has no hierarchy
// of systemd's to look at.
func CheckUnit(pid int, cgroupsPath string) error { return checkUnitIn("", pid, cgroupsPath) }

func checkUnitIn(root string, pid int, cgroupsPath string) error {
	want, err := fsPath(cgroupsPath)
	if err != nil {
		return err
	}
	members, err := readMemberships(root, strconv.Itoa(pid))
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the cgroup of process %d: %w", pid, err)
	}
	unit := filepath.Base(want)
	found := ""
	for _, m := range members {
		// systemd tracks processes in cgroup2, or where that is not mounted in a
		// hierarchy of its own. In the others runtimes make cgroups themselves.
		if len(m.controllers) > 0 && !slices.Contains(m.controllers, "name=systemd") {
			continue
		}
		if slices.Contains(strings.Split(m.path, "/"), unit) {
			return nil
		}
		if found == "" || found == "/" {
			found = m.path
		}
	}
	if found == "" || isZombie(root, pid) {
		return nil
	}
	return fmt.Errorf("process %d was left in the cgroup %s and is not in the unit %s, which was asked for: such a unit may have been left by another; "+
		"look at it (systemctl status %[3]s), remove it (systemctl reset-failed %[3]s) and use a newer runtime (runc from 1.1.6 on): %[4]w",
		pid, found, unit, errdefs.ErrFailedPrecondition)
}
