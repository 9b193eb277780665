// SPDX-License-Identifier: Apache-2.0

// Package docker runs containers through Debian's dockerd and its containerd
// 1.6, which starts shims by the protocol of its age.
package docker
