// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"path"
	"strings"
)

// placeTries bounds how often a container is begun whose cgroup is removed under
// the runtime.
const placeTries = 5

// untilPlaced runs a create or restore, and again when somebody has removed the
// container's cgroup after the runtime made it and before init was in it. systemd
// does that: on cgroup v1 it removes every empty cgroup from a hierarchy that its
// last unit with the controller has left, those of others too (openshift/origin
// 16246), and on v2 those below a slice that stops. Nobody can lock it out, and a
// runtime fails of it. Nothing of the container, and no hook, has run by then.
func (r *Runtime) untilPlaced(ctx context.Context, id string, begin func() (int, error)) (int, error) {
	for try := 1; ; try++ {
		pid, err := begin()
		var failed *Error
		if !errors.As(err, &failed) || !cgroupVanished(failed.Message) {
			return pid, err
		}
		if try == placeTries {
			failed.Message += ": something removes the container's cgroup while it is being made. systemd does so where cgroups " +
				"are made beside it: let it make them (the systemd cgroup driver), or give the container a cgroup below one that is never empty"
			return 0, err
		}
		if derr := r.Delete(ctx, id, true); derr != nil {
			return 0, err // and the caller's own clean-up will say why
		}
	}
}

// cgroupVanished tells whether a runtime could not put init where it had just made
// a cgroup. A limit's file that is missing is another matter, and lasting.
func cgroupVanished(message string) bool {
	const top = "/sys/fs/cgroup/"
	lower := strings.ToLower(message) // crun's errors are spelled as strerror does
	if !strings.Contains(lower, "no such file or directory") && !strings.Contains(lower, "no such device") {
		return false
	}
	for _, making := range [...]string{"mkdir ", "cgroup directory `"} { // runc's words, crun's
		if strings.Contains(lower, making+top) {
			return true
		}
	}
	_, file, found := strings.Cut(lower, top)
	if !found {
		return false
	}
	file, _, _ = strings.Cut(file, ": ")
	file, _, _ = strings.Cut(file, "`")
	switch path.Base(file) {
	case "cgroup.procs", "cpuset.cpus", "cpuset.mems": // a cpuset's are filled in first
		return true
	}
	return false
}
