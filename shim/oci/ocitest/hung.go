// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// HungDir is a directory of a file system that does not answer: a FUSE mount that
// nobody serves, as NFS looks when its server is gone. Whoever looks for a name in
// it waits until the test ends. It needs root.
func HungDir(t testing.TB) string {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("a file system that hangs: open /dev/fuse: %v", err)
	}
	dir, err := os.MkdirTemp("", "hung")
	if err == nil {
		err = unix.Mount("hung", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	}
	if err != nil {
		unix.Close(fd)
		t.Fatalf("a file system that hangs: %v", err)
	}
	t.Cleanup(func() {
		// Whoever waits gets an error. Closing the descriptor would not do: a child
		// that waits while it is being executed has it, too.
		_ = unix.Unmount(dir, unix.MNT_FORCE)
		unix.Close(fd)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && err != unix.EINVAL { // EINVAL: it is gone
			t.Errorf("unmount %s: %v", dir, err)
		}
		if err := os.RemoveAll(dir); err != nil { // whoever waited may have made a file
			t.Error(err)
		}
	})
	return dir
}
