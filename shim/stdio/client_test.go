// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func mkfifo(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openReader opens a named pipe as a client does, but without a wait for the shim.
func openReader(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reader is a client that reads a named pipe to its end.
type reader struct {
	buf  bytes.Buffer
	err  error
	done chan struct{}
}

// readAll opens path as a client does, blocking, and reads it to the end.
func readAll(path string) *reader {
	r := &reader{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		f, err := os.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			r.err = err
			return
		}
		defer f.Close()
		_, r.err = io.Copy(&r.buf, f)
	}()
	return r
}

func (r *reader) wait(t testing.TB) []byte {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatal("no end of the output")
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.buf.Bytes()
}

// want fails the test when what is read to the end is something else.
func (r *reader) want(t testing.TB, want string) {
	t.Helper()
	if got := string(r.wait(t)); got != want {
		t.Errorf("%d bytes, want %d: %.200q", len(got), len(want), got)
	}
}
