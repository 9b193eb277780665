// SPDX-License-Identifier: Apache-2.0

// Package arch holds the tests of the project's shape: which package may import
// which, what the resident shim must not link, and how files begin. Each rule
// carries its reason, and a failure names the way by which it was broken. The
// package has no code of its own.
package arch
