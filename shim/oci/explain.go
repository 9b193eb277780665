// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"path"
	"slices"
	"strings"
)

// controllers of cgroup v2, by which their files begin.
var controllers = []string{"cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"}

// explain adds to a runtime's message what it leaves to guess. That a file of a
// limit is not there, which is all that runc says, means that the cgroup has not
// got the controller: it was not delegated, or processes above are in the way.
func explain(message string) string {
	const top, missing = "/sys/fs/cgroup/", ": no such file or directory"
	_, rest, found := strings.Cut(message, top)
	file, _, isMissing := strings.Cut(rest, missing)
	if !found || !isMissing || strings.ContainsAny(file, " \n") {
		return message
	}
	hierarchy, _, _ := strings.Cut(file, "/")
	for _, c := range controllers {
		if slices.Contains(strings.Split(hierarchy, ","), c) {
			return message // cgroup v1: the cgroup itself is gone
		}
		if strings.HasPrefix(path.Base(file), c+".") {
			return message + ": cgroup v2 does not give the " + c + " controller to " + path.Dir(top+file) +
				"; `quoinctl doctor` tells whether it was delegated, else see cgroup.subtree_control of the cgroups above"
		}
	}
	return message
}
