// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import "fmt"

// foreignSystemd says whose /run/systemd/system we see.
func foreignSystemd(f Facts) string {
	switch {
	case f.InitForeign:
		return fmt.Sprintf("we are in a user namespace, and process 1 (%q) is not of it", f.InitComm)
	case f.UserNamespace:
		return fmt.Sprintf("we are in a user namespace whose process 1 is %q, not systemd", f.InitComm)
	}
	return fmt.Sprintf("process 1 of this PID namespace is %q, not systemd: /run/systemd/system is another's", f.InitComm)
}

// cgroupfsObstacle says why no container can have a cgroup of its own; "" when
// one can.
func cgroupfsObstacle(f Facts) string {
	switch {
	case f.UserNamespace && !f.Delegated:
		return fmt.Sprintf("the cgroup of this daemon (%s) is not delegated to the user namespace: have it delegated (Delegate=yes)", f.Path)
	case f.UserNamespace && f.Barred:
		return fmt.Sprintf("the paths of containers begin above the cgroup that is delegated to us (%s): start quoind in a cgroup namespace with cgroup2 mounted anew (unshare --cgroup --mount)", f.Path)
	case f.Barred:
		return "/sys/fs/cgroup is read-only: mount it writable"
	}
	return ""
}

// systemdObstacle says why systemd cannot be used; "" when it can.
func systemdObstacle(f Facts) string {
	switch {
	case !f.SystemdDir:
		return "systemd is not booted here: /run/systemd/system is not a directory"
	case !f.SystemdRuns():
		return foreignSystemd(f)
	case !f.Answered:
		return fmt.Sprintf("systemd's manager does not answer on D-Bus: %s", f.BusError)
	case f.Unit == "":
		return fmt.Sprintf("systemd's manager does not know the unit that this daemon runs in: %s", f.BusError)
	}
	return ""
}
