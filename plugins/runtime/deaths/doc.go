// SPDX-License-Identifier: Apache-2.0

// Package deaths owns what the daemon knows of the deaths of shims that a shim's
// "delete" cannot know: how a container's init ended that was gone before anybody
// looked, since the daemon holds a pidfd of each; and which exits its subscribers
// were told already, so that containerd, which tells the exit of every container
// whose shim dies, repeats none. It starts and ends nothing.
package deaths
