// SPDX-License-Identifier: Apache-2.0

// Package shims owns finding the shims of a daemon, by the bundles in its state
// directory, and asking all of them about themselves at once, so that one that
// does not answer delays nothing. It works for quoind's shims and for those under
// any other containerd, and changes nothing.
package shims
