// SPDX-License-Identifier: Apache-2.0

// Package nested runs a quoind inside namespaces of its own, in a container or
// in a user namespace with a cgroup that was delegated to it, and asks it for
// containers. Its tests show, natively, that all of this stays below the cgroup
// that the inner quoind was given; integration/vm/inside uses the package where
// a systemd and all controllers of cgroup v2 are wanted.
//
// An inner quoind has quoind's default paths: what differs is a configuration
// file, and a directory of the outside that is its root and its socket's place.
package nested
