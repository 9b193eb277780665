// SPDX-License-Identifier: Apache-2.0

// Package badinput asks a daemon for what cannot be done: a clear error each,
// with the words that runc's users know and the class that clients act upon,
// and nothing left behind. What a daemon would filter is asked of the shim
// itself, in package shim.
package badinput
