// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// What an OCI runtime leaves in the bundle is read from a file or not at all: a
// link would read somebody else's, a FIFO would never end.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	target := filepath.Join(t.TempDir(), "target")
	must(t, os.WriteFile(target, []byte(`{"level":"error","msg":"secret"}`), 0o600))
	for name, put := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink(target, path) },
		"a FIFO": func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			must(t, put(path))
			if _, err := ReadPidFile(path); err == nil || !strings.Contains(err.Error(), "its pid file cannot be read") {
				t.Errorf("as a pid file: %v", err)
			}
			if got := readTail(path, maxLog); got != nil {
				t.Errorf("as a log: %q", got)
			}
			if _, _, err := readSpec(path); err == nil {
				t.Error("as a spec it is read")
			}
			if _, ok := readNote(path); ok {
				t.Error("as a note it is read")
			}
		})
	}
}

// What is written replaces a link and leaves alone what it points to.
func TestLinksAreNotWrittenThrough(t *testing.T) {
	f, r := newFake(t, "true")
	target := filepath.Join(t.TempDir(), "target")
	must(t, os.WriteFile(target, []byte("77"), 0o600))
	for _, name := range []string{"init.pid", logName, keptCriuLog} {
		must(t, os.Symlink(target, filepath.Join(r.cfg.Bundle, name)))
	}
	f.Set("create", ocitest.Failpoint{Times: 1, Exit: 1, Message: "of no importance"})
	_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
	wantError(t, err, nil, "of no importance")
	must(t, keep(filepath.Join(r.cfg.Bundle, keptCriuLog), []byte("log")))
	if data, err := os.ReadFile(target); err != nil || string(data) != "77" {
		t.Errorf("the link's target holds %q, %v", data, err)
	}
	st, err := os.Lstat(filepath.Join(r.cfg.Bundle, keptCriuLog))
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("the kept log: %v, %v", st.Mode(), err)
	}
}
