// SPDX-License-Identifier: Apache-2.0

// Package reaper owns the children of the shim: it waits for each known process
// by its pidfd and reaps the strangers that the kernel hands to a subreaper. It
// knows nothing about containers and never calls wait4(-1), so that no exit is
// taken from its owner.
package reaper
