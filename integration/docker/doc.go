// SPDX-License-Identifier: Apache-2.0

// Package docker runs containers by what a user of Docker types: through
// Debian's dockerd 20.10 and its containerd 1.6, which starts shims by the
// protocol of its age, and through a current dockerd, which takes the shim by
// its own name, on stock containerd and on quoind.
package docker
