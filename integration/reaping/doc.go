// SPDX-License-Identifier: Apache-2.0

// Package reaping tests the shim's duties as a subreaper: whatever leaves a
// container's process tree is adopted and reaped, no exit is lost or taken for
// another's, and no zombie stays.
package reaping
