// SPDX-License-Identifier: Apache-2.0

// Package events owns the way of a shim's events to containerd: in order, never
// in the way of who publishes, within bounded memory, for as long as the shim
// lives, whatever the daemon does meanwhile.
//
// It does not decide what is published nor when: an exit is on record
// (package ledger) before its event comes here, and what is dropped here is
// still answered by State and Wait.
package events
