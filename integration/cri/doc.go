// SPDX-License-Identifier: Apache-2.0

// Package cri drives quoind as kubelet does: over the CRI socket, both
// services, with CNI networks in a network namespace of the package's own.
package cri
