// SPDX-License-Identifier: Apache-2.0

// Package cgroup owns what the shim does with control groups: finding the
// cgroup of a process, its statistics, freezing and killing it, watching it
// for OOM kills, moving the shim itself, and the rules which cgroup driver a
// cgroupsPath asks for. It works with cgroup v1, v2 and both side by side
// (hybrid), and with cgroup namespaces.
//
// It does not create or limit a container's cgroup: the OCI runtime does. It
// never speaks D-Bus, starts no process and keeps no goroutine but the one of
// an OOMWatcher.
//
// The files are read here, and not by github.com/containerd/cgroups or
// github.com/opencontainers/cgroups/{fs,fs2}, because those packages bring
// D-Bus, eBPF and logrus into every resident shim. Only the protobuf messages
// are theirs, for they are what containerd's clients decode.
//
// Every method of a nil *Cgroup is safe: Exists and Populated say false, the
// others return an error of class ErrNotFound.
package cgroup
