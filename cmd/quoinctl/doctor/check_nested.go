// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"slices"
	"strings"

	"github.com/quoin-io/quoin/plugins/cgroupdriver"
)

// cgroupTop is where the hierarchy begins that we see: the kernel's, or the part
// of it that a cgroup namespace shows.
const cgroupTop = "/sys/fs/cgroup"

// delegateFix is for controllers that a cgroup namespace does not have.
const delegateFix = "have them delegated to what quoind runs in: Delegate=cpu cpuset io memory pids in the unit above (for a user's services, in a drop-in of user@.service), or start the outer container with them"

// barred tells why cgroupfs cannot make containers' cgroups where their paths
// begin; false if it can.
func (w *world) barred() (Finding, bool) {
	switch facts := w.node.facts; {
	case !facts.Barred:
		return Finding{}, false
	case facts.UserNamespace && !facts.Nested:
		return failure("start quoind in a cgroup namespace, with cgroup2 mounted anew: unshare --cgroup --mount, then mount -t cgroup2 cgroup2 "+cgroupTop,
			"the paths of containers begin at the top of the hierarchy, where this user namespace may not make cgroups"), true
	case facts.UserNamespace:
		return failure("have the cgroup delegated: Delegate=yes in the unit above, or give it (with cgroup.procs, cgroup.subtree_control and cgroup.threads) to the root of the user namespace",
			"the root of the cgroup namespace does not belong to this user namespace"), true
	}
	return failure("mount it writable: for a container, privileged or with writable cgroups", "%s is read-only", cgroupTop), true
}

// withheld tells which controllers the root of a cgroup namespace has and does
// not hand on, which quoind sees to when it starts; false if it hands on all, or if
// that is for a systemd to see to.
func (w *world) withheld() (Finding, bool) {
	if facts := w.node.facts; !facts.Nested || facts.SystemdRuns() || w.node.driver != cgroupfs {
		return Finding{}, false
	}
	given := strings.Fields(w.line(cgroupTop + "/cgroup.subtree_control"))
	withheld := slices.DeleteFunc(strings.Fields(w.line(cgroupTop+"/cgroup.controllers")), func(name string) bool {
		return slices.Contains(given, name)
	})
	if len(withheld) == 0 {
		return Finding{}, false
	}
	why := ""
	if w.line(cgroupTop+"/cgroup.procs") != "" {
		why = ": it has processes, beside which cgroup v2 allows none"
	}
	return failure("restart quoind, which moves the processes to "+cgroupdriver.Leaf+" and hands the controllers on; or move them into a cgroup below",
		"the root of the cgroup namespace does not give containers %s%s", strings.Join(withheld, ", "), why).with("withheld", withheld), true
}
