// SPDX-License-Identifier: Apache-2.0

// Package events owns the way of a shim's events to containerd: in order, each
// once, never in the way of who publishes, within bounded memory, whatever the
// daemon does meanwhile. What is not delivered is in a spool in the bundle, so that
// it outlives the shim: a successor goes on with it (Park, Resume), or "delete"
// delivers the rest (Leftover).
//
// It does not decide what is published nor when: an exit is on record
// (package ledger) before its event comes here, and what is dropped here is
// still answered by State and Wait.
package events
