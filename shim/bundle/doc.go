// SPDX-License-Identifier: Apache-2.0

// Package bundle owns the on-disk contract of a task's bundle directory: the
// names of its files, the options that were given for the task, and the few
// facts of its config.json that the shim itself acts on. The files are those of
// containerd's runc shim, in its formats, so that either shim can clean up
// after the other.
//
// It does not change config.json (shim/oci does, when a runtime is too old for
// it), it does not mount, and it keeps no state in memory.
package bundle
