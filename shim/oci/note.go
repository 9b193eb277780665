// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// noteName is a file beside the bundles of a containerd namespace that says which
// runtime refused a spec last, and how new a spec it takes. With it, only the
// first shim after a boot (it is on a tmpfs) finds out the hard way. containerd
// takes only directories there for bundles.
const noteName = ".quoin-oci-runtime.json"

// maxNote bounds it, in bytes.
const maxNote = 8 << 10

// note is what the file says. One is enough: it is rare that a node has two
// runtimes that are that old.
type note struct {
	ID    binaryID
	Level level
}

func (r *Runtime) notePath() string {
	return filepath.Join(filepath.Dir(r.cfg.Bundle), noteName)
}

func readNote(path string) (note, bool) {
	var n note
	if !readPrivate(path, &n) {
		return note{}, false
	}
	_, ok := parseNumbers(n.Level.Spec)
	return n, ok
}

func writeNote(path string, n note) { writePrivate(path, n) }

// readPrivate reads JSON that nobody but this user can have written. A note is a
// saving and nothing more: one that is not there or not right is none.
func readPrivate(path string, into any) bool {
	f, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !private(st) {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(f, maxNote))
	return err == nil && json.Unmarshal(data, into) == nil
}

// writePrivate leaves a note, where that is safe.
func writePrivate(path string, content any) {
	st, err := os.Stat(filepath.Dir(path))
	if err != nil || !private(st) {
		return
	}
	data, err := json.Marshal(content)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*")
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil || os.Rename(f.Name(), path) != nil {
		_ = os.Remove(f.Name()) // the next shim finds out by itself
	}
}

// private tells whether only this user can write it.
func private(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid() && st.Mode().Perm()&0o022 == 0
}
