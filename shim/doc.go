// SPDX-License-Identifier: Apache-2.0

// Package shim composes containerd-shim-quoin-v1 from its parts: the command
// line that containerd uses (start, delete, -info, and serve without an action)
// and the process that serves a pod's containers until the last is deleted. It
// owns no container and no protocol.
package shim
