// SPDX-License-Identifier: Apache-2.0

// Package ledger owns the durable records of exits: one small file per process
// that ended, in the bundle, written before anybody is told of the exit. What it
// holds survives the shim, so that "delete", the daemon or a successor of the
// shim can still answer with the true status and time.
//
// The record of a container's init is the runc shim's exit.json, readable by
// either shim. The package neither waits for processes nor decides which status
// to tell.
package ledger
