// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
)

const testAddress = "unix:///run/containerd/s/abc"

func TestReplyNewDaemon(t *testing.T) {
	out, err := Reply(Params{ID: "c1"}, testAddress)
	if err != nil {
		t.Fatal(err)
	}
	var result bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &result); err != nil {
		t.Fatal(err)
	}
	if result.Version != 3 || result.Protocol != "ttrpc" || result.Address != testAddress {
		t.Fatalf("got %v", &result)
	}
	var caps types.MountCapabilities
	found, err := result.FindExtension(&caps)
	if err != nil || !found || len(caps.Types)+len(caps.Transforms) != 0 {
		t.Fatalf("mount capabilities: %v, %v, %v", found, &caps, err)
	}
}

// TestReplyLegacyDaemon reads the reply as each older daemon does.
func TestReplyLegacyDaemon(t *testing.T) {
	out, err := Reply(Params{ID: "c1", Legacy: true}, testAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("1.6 takes it whole", func(t *testing.T) {
		if got := string(bytes.TrimSpace(out)); got != testAddress {
			t.Fatalf("got %q", got)
		}
	})
	t.Run("1.7 to 2.2 look for JSON first", func(t *testing.T) {
		var params struct{ Version int }
		if err := json.Unmarshal(out, &params); err == nil && params.Version >= 2 {
			t.Fatalf("taken for JSON: %+v", params)
		}
	})
	t.Run("2.3 and newer look for a message first", func(t *testing.T) {
		if err := proto.Unmarshal(out, &bootapi.BootstrapResult{}); err == nil {
			t.Fatal("taken for a message")
		}
	})
}

func TestReplyRefusesAbstract(t *testing.T) {
	for _, legacy := range []bool{true, false} {
		if _, err := Reply(Params{Legacy: legacy}, "abc"); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Fatalf("legacy %v: %v", legacy, err)
		}
	}
}

func TestBundleFiles(t *testing.T) {
	bundle := t.TempDir()
	outside := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(outside, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(bundle, "address")); err != nil {
		t.Fatal(err)
	}
	if err := WriteAddress(bundle, testAddress); err != nil {
		t.Fatal(err)
	}
	if err := WriteBinaryPath(bundle, "/usr/bin/x"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"address": testAddress, "shim-binary-path": "/usr/bin/x"} {
		info, err := os.Lstat(filepath.Join(bundle, name))
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("%s: mode %v, %v", name, info.Mode(), err)
		}
		if got, _ := os.ReadFile(filepath.Join(bundle, name)); string(got) != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got, _ := os.ReadFile(outside); string(got) != "untouched" {
		t.Errorf("written through a symbolic link: %q", got)
	}
	if entries, _ := os.ReadDir(bundle); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
	if err := WriteAddress(bundle, "abstract"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
	if err := WriteBinaryPath(bundle, "containerd-shim-quoin-v1"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
	if err := WriteAddress(filepath.Join(bundle, "none"), testAddress); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
