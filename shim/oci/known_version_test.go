// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// A runtime is asked for its version once, and again when its file has changed.
func TestKnownVersion(t *testing.T) {
	f := ocitest.New(t)
	f.Set("--version", ocitest.Failpoint{Stdout: "runc version 1.1.5\nspec: 1.0.2\n"})
	bundles := t.TempDir()
	must(t, os.Chmod(bundles, 0o711))
	for _, name := range []string{"a", "b"} {
		must(t, os.Mkdir(filepath.Join(bundles, name), 0o700))
		r := newRuntime(t, Config{Binary: f.Binary(), Bundle: filepath.Join(bundles, name)})
		v, err := r.KnownVersion(t.Context())
		must(t, err)
		if v.Release != "1.1.5" || !strings.Contains(v.SecurityWarning(), "1.3.6") {
			t.Errorf("%+v", v)
		}
	}
	if got := f.Steps(); !slices.Equal(got, []string{"--version"}) {
		t.Errorf("asked: %v", got)
	}
	notes, err := filepath.Glob(filepath.Join(bundles, ".quoin-oci-version-*"))
	must(t, err)
	if len(notes) != 1 {
		t.Fatalf("notes: %v", notes)
	}
	if st, err := os.Stat(notes[0]); err != nil || st.Mode() != 0o600 {
		t.Errorf("the note: %v, %v", st.Mode(), err)
	}
	// Somebody else's note is none.
	must(t, os.Chown(notes[0], 12345, 12345))
	_, err = newRuntime(t, Config{Binary: f.Binary(), Bundle: filepath.Join(bundles, "a")}).KnownVersion(t.Context())
	must(t, err)
	if got := f.Steps(); len(got) != 2 {
		t.Errorf("a foreign note was believed: %v", got)
	}
}
