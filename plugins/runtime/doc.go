// SPDX-License-Identifier: Apache-2.0

// Package runtime owns the decoration of containerd's task runtime: every call
// goes through it to containerd's own, and creations and deletions of tasks
// are counted by runtime type and outcome, and those whose cgroupsPath is written
// for another cgroup driver than the node's. It does not start shims.
package runtime
