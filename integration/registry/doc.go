// SPDX-License-Identifier: Apache-2.0

// Package registry pushes to and pulls from a real registry on loopback, and
// runs what came back.
package registry
