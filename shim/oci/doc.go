// SPDX-License-Identifier: Apache-2.0

// Package oci runs an OCI runtime (runc, crun, youki, …) by exec: one process
// per operation, which exits. It owns the runtime's command line, the deadline of
// each call, the reading of what the runtime reports (log, pid file, output), the
// classes of its errors, and the lowering of a spec's version for a runtime that
// is too old to know it. It keeps no state of containers, reads no cgroups, and
// reaps nothing but the runtime's own processes.
//
// # Why not containerd/go-runc
//
// go-runc builds the same command lines, but what is around them gets in the way:
// its Monitor is a package global, where a library must not put its own; output
// and stderr go to buffers without a limit; one log file is shared by calls that
// may run at the same time; and a call ends when the runtime does, not when the
// deadline passes. The command lines are the small part.
//
// # How a runtime is run
//
// Each call has a process group of its own and dies with the shim (PDEATHSIG,
// which the kernel sends when the thread that forked ends: no goroutine of the
// process may end with its thread locked). A container's init and its execs call
// setsid and are orphaned to the shim when the runtime exits, so neither the
// group's end nor the death signal reaches them. Since execve in a process ends
// its other threads, a shim that re-executes itself has to wait for the calls in
// flight.
//
// When the deadline passes, the whole group gets SIGTERM, of which runc and crun
// die, and on which a wrapper may clean up; after Deadlines.Terminate it gets
// SIGKILL. The call returns after that: a runtime that lived on after its error was
// told would go on changing what the caller is about to clean up. Half a container
// may be left: the caller follows up with a forced Delete. A runtime that does not
// die (uninterruptible sleep in the kernel) is left behind, and the call returns all
// the same.
//
// A runtime that fails, for whatever reason, leaves none of its own processes: its
// group is killed, and so is what has left the group, which a mark in the
// environment tells. One that succeeds may leave what it likes: its hooks may have
// started daemons.
//
// A create whose cgroup somebody removes while it is still empty is begun again,
// after a forced delete. systemd removes what is made beside it, above all on cgroup
// v1, and no runtime minds.
//
// Output is captured in sealed memory files: they are bounded, need no
// goroutine, and a grandchild that keeps one open holds nobody up.
//
// # Versions
//
// A runtime's version is asked for only when a spec has been refused. runc and
// newer cruns never look at ociVersion, so for them it costs a stat and a failed
// open. An old crun costs one refused create (it refuses before it does anything)
// and one --version, after which Known, and a note beside the bundles, remember
// it for this shim and the next ones. Trying again is safe: it happens only after
// those words of the runtime, once.
package oci
