// SPDX-License-Identifier: Apache-2.0

// Package container owns the containers of a shim: one state machine for the
// init and the execs of each, and one goroutine that drives it. It runs the OCI
// runtime, stdio, cgroups and the ledger through the packages that own those; it
// speaks no RPC.
//
// The machine is pure: it takes events (requests, results of operations, exits)
// and returns effects. The driver performs them, operations in goroutines of
// their own whose results come back as events. So no lock is held over a call of
// the OCI runtime: State and Wait read a published view, Kill uses a pidfd, and
// neither waits for an operation.
package container
