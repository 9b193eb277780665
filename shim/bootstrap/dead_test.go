// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func TestRemoveDead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	path := filepath.Join(dir, "a")
	if err := RemoveDead(Address(path)); err != nil {
		t.Fatalf("without a socket: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := RemoveDead(Address(path)); err != nil {
		t.Fatalf("of a living shim: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the socket of a living shim was removed: %v", err)
	}
	l.Close()
	if err := RemoveDead(Address(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Fatalf("the socket of a dead shim is still there: %v", err)
	}
	if err := RemoveDead("@abstract"); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("an abstract address: %v, want ErrInvalidArgument", err)
	}
}

func TestBundleAddress(t *testing.T) {
	write := func(dir, name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if _, err := BundleAddress(dir); !errdefs.IsNotFound(err) {
		t.Errorf("an empty bundle: %v, want ErrNotFound", err)
	}
	write(dir, "address", "unix:///old\n")
	if got, err := BundleAddress(dir); err != nil || got != "unix:///old" {
		t.Errorf("%q, %v", got, err)
	}
	write(dir, "bootstrap.json", `{"version":3,"address":"unix:///new","protocol":"ttrpc"}`)
	if got, err := BundleAddress(dir); err != nil || got != "unix:///new" {
		t.Errorf("%q, %v", got, err)
	}
	write(dir, "bootstrap.json", `{"version":`)
	if _, err := BundleAddress(dir); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a damaged file: %v, want ErrInvalidArgument", err)
	}
}
