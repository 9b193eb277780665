// SPDX-License-Identifier: Apache-2.0

//go:build !failpoints

package shim

// failpoint does nothing: only builds with the tag failpoints, for tests, can fail at
// the moments that it names.
func failpoint(string) {}
