// SPDX-License-Identifier: Apache-2.0

// Package upgrade owns what an upgrade in place is made of: the envelope that
// carries a shim's state from one image of the process to the next, the versions
// of its format, the descriptors that an image leaves open for the next, the
// check of the new binary, the exec, and the guardian's part of the talk between
// the three processes. Conn is a client's connection that can change hands
// although requests are pending on it.
//
// It does not know what the state is, and decides nothing about when.
package upgrade
