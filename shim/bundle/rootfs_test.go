// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

func mounted(t *testing.T, path string) bool {
	t.Helper()
	yes, err := mountinfo.Mounted(path)
	if err != nil {
		t.Fatal(err)
	}
	return yes
}

func TestRootfsIsMountedAndUnmounted(t *testing.T) {
	b := newBundle(t)
	tmpfs := []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}}
	for range 2 { // a mount upon a mount goes, too
		if err := b.MountRootfs(t.Context(), tmpfs); err != nil {
			t.Fatal(err)
		}
	}
	if !mounted(t, b.RootfsPath()) {
		t.Fatal("nothing is mounted")
	}
	for range 2 { // the second time there is nothing to do
		if err := b.UnmountRootfs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if mounted(t, b.RootfsPath()) {
			t.Fatal("it is still mounted")
		}
	}
}

func TestFailedMountLeavesNothing(t *testing.T) {
	b := newBundle(t)
	err := b.MountRootfs(t.Context(), []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}, {Type: "bind", Source: "/does/not/exist", Options: []string{"bind"}}})
	if !errors.Is(err, os.ErrNotExist) || mounted(t, b.RootfsPath()) {
		t.Errorf("%v", err)
	}
}

// A source that does not answer ends in an error that says how long it was waited
// for, and what.
func TestMountThatHangs(t *testing.T) {
	hung := ocitest.HungDir(t)
	b := newBundle(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	source := filepath.Join(hung, "layer")
	err := b.MountRootfs(ctx, []mount.Mount{{Type: "bind", Source: source, Options: []string{"bind"}}})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "mount the rootfs (bind from \""+source+"\"): not done after ") {
		t.Errorf("%v", err)
	}
}

func TestUnmountThatHangs(t *testing.T) {
	b := &Bundle{path: filepath.Join(ocitest.HungDir(t), "bundle")}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := b.UnmountRootfs(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "unmount the rootfs: not done after ") {
		t.Errorf("%v", err)
	}
}
