// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// openRegular opens a file of the bundle for reading. It follows no link in the
// file's place, and neither waits for a FIFO's other end nor reads from a device:
// those are errdefs.ErrInvalidArgument.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file (%s): %w", path, st.Mode(), errdefs.ErrInvalidArgument)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
