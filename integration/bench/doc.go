// SPDX-License-Identifier: Apache-2.0

// Command bench measures Quoin beside stock containerd, in one run and
// interleaved: every iteration does the same thing once with each variant, in
// an order that alternates, so that whatever else the machine does meets all
// of them.
//
// The variants are
//
//	stock    stock containerd with its runc shim, both built with release flags
//	drop-in  stock containerd with Quoin's shim
//	quoind   quoind with Quoin's shim
//
// with the same OCI runtime binary, image, specification and client. What is
// measured is the life of a task by phase, containers per second, an exec, the
// memory of a shim, and how many programs one container's life executes.
//
// The program starts itself again in a mount and a PID namespace of its own,
// with an empty /run, so that each daemon has its directories, sockets and
// cgroups to itself and nothing of them outlives the run, however it ends. A
// target that is missed is shown and does not fail the run.
package main
