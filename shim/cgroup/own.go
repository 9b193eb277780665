// SPDX-License-Identifier: Apache-2.0

package cgroup

import "fmt"

// Own returns the path of this process's cgroup as /proc/self/cgroup shows it:
// that of cgroup2, or where there is none of the name=systemd hierarchy, or of
// the first v1 controller. It is "/" for a process in no cgroup of its own.
func Own() (string, error) {
	members, err := readMemberships("", "self")
	if err != nil {
		return "", fmt.Errorf("find the shim's own cgroup: %w", err)
	}
	return ownCgroup(members, isUnified(mountPoint)).path, nil
}
