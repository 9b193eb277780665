// SPDX-License-Identifier: Apache-2.0

// Package shim drives the shim's binary without a daemon, as containerd 1.6
// and containerd 2.4 do: start, -info, delete, and the Task API in both
// versions on its socket. So it can ask for what a daemon would filter.
package shim
