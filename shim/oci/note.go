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

// readNote reads a note that nobody but this user can have written. A note is a
// saving and nothing more: one that is not there or not right is none.
func readNote(path string) (note, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return note{}, false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || !private(st) {
		return note{}, false
	}
	data, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return note{}, false
	}
	var n note
	if json.Unmarshal(data, &n) != nil {
		return note{}, false
	}
	_, ok := parseNumbers(n.Level.Spec)
	return n, ok
}

// writeNote leaves a note, where that is safe.
func writeNote(path string, n note) {
	st, err := os.Stat(filepath.Dir(path))
	if err != nil || !private(st) {
		return
	}
	data, err := json.Marshal(n)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), noteName+"-*")
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
