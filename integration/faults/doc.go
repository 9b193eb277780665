// SPDX-License-Identifier: Apache-2.0

// Package faults breaks things under running containers and asks for the truth
// afterwards: shims and daemons that are killed or stopped, OCI runtimes that hang,
// crash or lie, disks that are full, descriptors and pids that run out. Whatever
// happens, each exit is told once, with its true status or as honestly unknown,
// nothing is left behind and the container's id can be used again.
package faults
