// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestInherit: a descriptor is handed on by its number, once.
func TestInherit(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	undo, err := Inherit([]int{fd})
	if err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC != 0 {
		t.Error("it would be closed")
	}
	undo()
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("it would be inherited after all")
	}
	if _, err := Inherit([]int{1 << 20}); err == nil {
		t.Error("no descriptor was handed on")
	}
	got, err := Take([]int{fd})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := got.File(fd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.File(fd); !errdefs.IsInvalidArgument(err) {
		t.Errorf("twice: %v", err)
	}
	if err := errors.Join(got.Close(), taken.Close()); err != nil {
		t.Error(err)
	}
	_ = f.Close() // its descriptor was the taken one's
	for _, fds := range [][]int{{0}, {-1}, {1 << 20}} {
		if _, err := Take(fds); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", fds, err)
		}
	}
}
