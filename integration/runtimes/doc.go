// SPDX-License-Identifier: Apache-2.0

// Package runtimes runs the same containers with every OCI runtime that the
// shim is for, in each arrangement of cgroup hierarchies where the runtime
// works: runc 1.5, Debian's runc 1.1.5 and crun 1.8.1.
package runtimes
