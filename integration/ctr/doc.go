// SPDX-License-Identifier: Apache-2.0

// Package ctr tests what a user types: quoinctl against quoind, and ctr
// against stock containerd with Quoin's shim as a drop-in.
package ctr
