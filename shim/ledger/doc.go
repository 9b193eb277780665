// SPDX-License-Identifier: Apache-2.0

// Package ledger owns the durable records of births and exits: small files in the
// bundle. An exit is written before anybody is told of it, a birth before a create
// or an exec is answered. They survive the shim, so that "delete", the daemon or a
// successor of the shim can find the process beyond doubt, end it, and answer with
// the true status and time, or with one that is marked as unknown: Witness tells how
// a process that is no child ended.
//
// The record of a container's init is the runc shim's exit.json, readable by
// either shim. The package decides neither who is ended nor which status to tell.
package ledger
