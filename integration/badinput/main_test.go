// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core()...))
}

func quoind(t *testing.T) *harness.Daemon {
	t.Helper()
	return harness.Shared(t, harness.Spec{Kind: harness.KindQuoind})
}

// fake writes an OCI runtime that is a shell script and returns options that
// name it.
func fake(t *testing.T, script string) *options.Options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runtime")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &options.Options{BinaryName: path}
}

// wantError fails unless err has the words and the class.
func wantError(t *testing.T, what string, err error, class func(error) bool, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %q, want %q in it", what, err, word)
		}
	}
	if class != nil && !class(err) {
		t.Errorf("%s: the class of %q is not the one wanted", what, err)
	}
}
