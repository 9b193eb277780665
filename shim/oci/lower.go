// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/containerd/errdefs"
)

const (
	specName = "config.json"
	// maxSpec bounds config.json, in bytes.
	maxSpec = 16 << 20
)

// versionRefusal matches the words of runtimes that look at ociVersion: crun
// before 1.14.3 ("unknown version specified"), youki ("incompatible version"). It
// is compiled when a create has failed; a resident shim has no use for it before.
const versionRefusal = `(?i)\bunknown version specified|\b(incompatible|unsupported) (oci |spec |runtime[- ]spec )*version\b`

// refusesVersion tells whether a create failed for the spec's version.
func refusesVersion(err error) bool {
	var e *Error
	return errors.As(err, &e) && regexp.MustCompile(versionRefusal).MatchString(e.Message)
}

// lower asks the runtime what it knows and lowers the bundle's spec to that. It
// says whether it changed anything.
func (r *Runtime) lower(ctx context.Context) (bool, error) {
	id, err := identify(r.cfg.Binary)
	if err != nil {
		return false, fmt.Errorf("OCI runtime: %w", err)
	}
	l, ok := r.known.get(id)
	if !ok {
		if l, err = r.probe(ctx); err != nil {
			return false, fmt.Errorf("the OCI runtime refused the spec's version, and asking for the one it knows failed: %w", err)
		}
		r.known.put(id, l)
		writeNote(r.notePath(), note{id, l})
	}
	return lowerSpec(filepath.Join(r.cfg.Bundle, specName), l)
}

// lowerKnown lowers the spec for a runtime that is known to refuse newer ones. For
// one that has not refused any, it costs a stat and an open that finds nothing.
func (r *Runtime) lowerKnown() error {
	id, err := identify(r.cfg.Binary)
	if err != nil {
		return nil // the call itself will say so, in the words that users know
	}
	l, ok := r.known.get(id)
	if !ok {
		n, noted := readNote(r.notePath())
		if !noted || n.ID != id {
			return nil
		}
		l = n.Level
		r.known.put(id, l)
	}
	_, err = lowerSpec(filepath.Join(r.cfg.Bundle, specName), l)
	return err
}

// lowerSpec replaces the version in the file when it is newer than l, in one step
// and without touching another byte. A spec that uses what came after l is
// refused, with the field's name.
func lowerSpec(path string, l level) (bool, error) {
	data, st, err := readSpec(path)
	if err != nil {
		return false, fmt.Errorf("read the OCI spec to lower its version: %w", err)
	}
	start, end, version, err := findVersion(data)
	if err != nil {
		return false, fmt.Errorf("OCI spec %s: %w", path, err)
	}
	have, ok := parseNumbers(version)
	if !ok {
		return false, fmt.Errorf("OCI spec %s: ociVersion %.40q is not a version: %w", path, version, errdefs.ErrInvalidArgument)
	}
	if !l.Max.less(have) {
		return false, nil
	}
	field, since, err := firstNovelty(data, l)
	if err != nil {
		return false, fmt.Errorf("OCI spec %s: %w", path, err)
	}
	if field != "" {
		return false, fmt.Errorf("the OCI spec uses %s, new in version %s of the OCI spec, but %s knows only %s; use a newer OCI runtime or leave it out: %w",
			field, since, l.Name, l.Spec, errdefs.ErrInvalidArgument)
	}
	quoted, err := json.Marshal(l.Spec)
	if err != nil {
		return false, fmt.Errorf("encode a version: %w", err)
	}
	lowered := bytes.Join([][]byte{data[:start], quoted, data[end:]}, nil)
	if err := replaceFile(path, lowered, st); err != nil {
		return false, fmt.Errorf("write the OCI spec with a lower version: %w", err)
	}
	return true, nil
}

func readSpec(path string) ([]byte, os.FileInfo, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err == nil && len(data) > maxSpec {
		err = fmt.Errorf("%s is larger than %d bytes: %w", path, maxSpec, errdefs.ErrInvalidArgument)
	}
	return data, st, err
}

// findVersion locates the value of the top-level ociVersion: data[start:end] is
// its JSON string.
func findVersion(data []byte) (start, end int, version string, err error) {
	malformed := func(err error) (int, int, string, error) {
		return 0, 0, "", fmt.Errorf("malformed: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil {
		return malformed(err)
	} else if t != json.Delim('{') {
		return malformed(errors.New("not an object"))
	}
	found := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return malformed(err)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return malformed(err)
		}
		if key != "ociVersion" {
			continue
		}
		if found {
			return malformed(errors.New("ociVersion is there twice"))
		}
		found = true
		end = int(dec.InputOffset())
		start = end - len(raw)
		if err := json.Unmarshal(raw, &version); err != nil {
			return malformed(err)
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return malformed(err)
	}
	if !found {
		return malformed(errors.New("no ociVersion"))
	}
	return start, end, version, nil
}

// replaceFile puts data in the place of the file, with its mode and owner.
func replaceFile(path string, data []byte, st os.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+specName+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(st.Mode().Perm())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && err == nil {
		err = f.Chown(int(sys.Uid), int(sys.Gid))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
