// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// SetCgroupsPath replaces linux.cgroupsPath in config.json in one step and
// without touching another byte. The file must have that field, as a string.
//
// Errors: errdefs.ErrInvalidArgument when it has not, or is malformed.
func (b *Bundle) SetCgroupsPath(path string) error {
	file := b.ConfigPath()
	data, err := readBounded(file, maxConfig)
	if err != nil {
		return fmt.Errorf("read OCI spec: %w", err)
	}
	start, end, err := findMember(data, "linux", "cgroupsPath")
	if err != nil {
		return fmt.Errorf("OCI spec %s: %w: %w", file, err, errdefs.ErrInvalidArgument)
	}
	quoted, err := json.Marshal(path)
	if err != nil {
		return fmt.Errorf("encode cgroupsPath %q: %w", path, err)
	}
	return replaceFile(file, bytes.Join([][]byte{data[:start], quoted, data[end:]}, nil))
}

// findMember locates the value at a path of member names: data[start:end].
func findMember(data []byte, names ...string) (start, end int, err error) {
	start, end = 0, len(data)
	for _, name := range names {
		dec := json.NewDecoder(bytes.NewReader(data[start:end]))
		if t, err := dec.Token(); err != nil || t != json.Delim('{') {
			return 0, 0, errors.Join(fmt.Errorf("%q is not in an object", name), err)
		}
		s, e := -1, -1
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return 0, 0, err
			}
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				return 0, 0, err
			}
			if key == name {
				// The last one counts, as for every decoder of this file.
				e = start + int(dec.InputOffset())
				s = e - len(raw)
			}
		}
		if s < 0 {
			return 0, 0, fmt.Errorf("no %q", name)
		}
		start, end = s, e
	}
	return start, end, nil
}

// replaceFile puts data in the place of a file, with its mode. It is not synced:
// a bundle does not outlive the boot.
func replaceFile(path string, data []byte) (retErr error) {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if retErr != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(st.Mode().Perm()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
