// SPDX-License-Identifier: Apache-2.0

package ocitest

import "golang.org/x/sys/unix"

// RemoveOnce removes a cgroup as soon as it is there, as systemd does with empty
// ones, and says whether it did: it gives up when stop is closed.
func RemoveOnce(dir string, stop <-chan struct{}) bool {
	for {
		select {
		case <-stop:
			return false
		default:
			if unix.Rmdir(dir) == nil {
				return true
			}
		}
	}
}
