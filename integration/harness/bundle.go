// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
)

// Bundle makes an OCI bundle as a daemon does, in dir, with busybox as its root
// file system, and returns its path.
func Bundle(t testing.TB, dir, ns, id string, args []string, change ...oci.SpecOpts) string {
	t.Helper()
	path := filepath.Join(dir, id)
	for _, d := range []string{"rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/tmp"} {
		if err := os.MkdirAll(filepath.Join(path, d), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", BusyboxStatic.Path(), filepath.Join(path, "rootfs/bin/busybox")).CombinedOutput(); err != nil {
		t.Fatalf("copy busybox: %v: %s", err, out)
	}
	for _, applet := range []string{"sh", "sleep", "echo", "true", "cat"} {
		if err := os.Symlink("busybox", filepath.Join(path, "rootfs/bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := withNamespace(context.Background(), ns)
	opts := append([]oci.SpecOpts{oci.WithProcessArgs(args...), oci.WithEnv([]string{"PATH=/bin"}), oci.WithRootFSPath("rootfs")}, change...)
	spec, err := oci.GenerateSpec(ctx, nil, &containers.Container{ID: id}, opts...)
	if err != nil {
		t.Fatalf("make a spec: %v", err)
	}
	content, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "config.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
