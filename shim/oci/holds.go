// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Holds tells, without running anything, whether an OCI runtime keeps something of a
// container in its root: a directory of that name, as runc, crun and youki have it. A
// runtime with another layout seems to hold none.
func Holds(root, id string) bool {
	_, err := os.Lstat(filepath.Join(root, id))
	return !errors.Is(err, fs.ErrNotExist) // what cannot be looked at, the runtime tells
}

// Holds is Holds for the runtime's own root.
func (r *Runtime) Holds(id string) bool { return Holds(r.cfg.Root, id) }
