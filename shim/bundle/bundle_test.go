// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"
)

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b ünïcode 容器")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir + "//")
	if err != nil {
		t.Fatal(err)
	}
	if b.Path() != dir {
		t.Errorf("Path() = %q, want %q", b.Path(), dir)
	}
	for got, want := range map[string]string{
		b.ConfigPath(): "config.json", b.InitPidPath(): "init.pid", b.ExecPidPath("e1"): "e1.pid",
		b.LogPath(): "log.json", b.WorkPath(): "work", b.RootfsPath(): "rootfs", b.ShimBinaryPath(): "shim-binary-path",
	} {
		if got != filepath.Join(dir, want) {
			t.Errorf("got %q, want %q in the bundle", got, want)
		}
	}
	if b.ExecPidPath("init") == b.InitPidPath() {
		t.Error("an exec named init overwrites the pid file of init")
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a file as bundle: %v", err)
	}
	if _, err := Open("relative"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative path: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none")); !errdefs.IsNotFound(err) {
		t.Errorf("a missing bundle: %v", err)
	}
}

func TestShimBinary(t *testing.T) {
	b := newBundle(t)
	for _, name := range []string{"/usr/bin/first", "/usr/bin/second"} {
		if err := b.WriteShimBinary(name); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(b.ShimBinaryPath())
		if err != nil || string(got) != name {
			t.Errorf("shim-binary-path = %q, %v", got, err)
		}
	}
	st, err := os.Stat(b.ShimBinaryPath())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := b.WriteShimBinary("shim"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative binary: %v", err)
	}
	files, err := os.ReadDir(b.Path())
	if err != nil || len(files) != 1 {
		t.Errorf("temporary files are left: %v, %v", files, err)
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "default", "foo.bar-baz_x", "0912", strings.Repeat("a", 76), strings.Repeat("f", 250), "with space", "ü"} {
		if err := CheckID(id); err != nil {
			t.Errorf("%q is refused: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a\x00b", "a\nb", "-rf", ".hidden", "\xff", strings.Repeat("ü", 126)} {
		if err := CheckID(id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// Whatever containerd lets through must be fine here, and be a file of its own.
func FuzzCheckID(f *testing.F) {
	for _, id := range []string{"a", "a.b-c_d", "init", "..", "a/b", "", "\x00"} {
		f.Add(id)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, id string) {
		err := CheckID(id)
		if identifiers.Validate(id) == nil && err != nil {
			t.Fatalf("containerd allows %q: %v", id, err)
		}
		if err == nil && filepath.Dir(filepath.Join(dir, id+".pid")) != dir {
			t.Fatalf("%q leaves its directory", id)
		}
	})
}

func newBundle(t testing.TB) *Bundle {
	t.Helper()
	b, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
