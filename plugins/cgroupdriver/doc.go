// SPDX-License-Identifier: Apache-2.0

// Package cgroupdriver owns the node's one decision who makes cgroups, systemd
// or the OCI runtime, and sees to it that everybody is told the same: kubelet by
// CRI's RuntimeConfig, the shims by their environment, and whoever asks
// `ctr plugins inspect`.
//
// The rules are those of decide. It does not place containers: a shim does, by
// the shape of each cgroupsPath (shim/cgroup.Translate).
//
// Under systemd it also keeps limits that systemd forgets when it reads its units
// again (keeper).
//
// A main program calls Register, and WrapCRI, WrapShims and WrapTasks for the
// plugins of containerd that it registers anew.
package cgroupdriver
