// SPDX-License-Identifier: Apache-2.0

package cgroup

import "golang.org/x/sys/unix"

// mountPoint is where every distribution and every OCI runtime expects the
// cgroup file systems.
const mountPoint = "/sys/fs/cgroup"

// Mode says which cgroup versions a host (or mount namespace) uses.
type Mode int

// The modes, in the words of systemd's documentation.
const (
	// Unavailable means that no cgroup file system is mounted.
	Unavailable Mode = iota
	// Legacy means cgroup v1 only.
	Legacy
	// Hybrid means that the controllers are in cgroup v1 and a cgroup2 tree
	// without them is mounted beside it.
	Hybrid
	// Unified means cgroup v2 only.
	Unified
)

// String returns the mode's lower-case name.
func (m Mode) String() string {
	switch m {
	case Legacy:
		return "legacy"
	case Hybrid:
		return "hybrid"
	case Unified:
		return "unified"
	default:
		return "unavailable"
	}
}

// isUnified asks the kernel what is mounted on dir. It costs one system call,
// while reading mountinfo costs a line for each mount of the node.
func isUnified(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}
