// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"fmt"
	"hash/fnv"
	"path/filepath"
)

// versionNote is a file beside the bundles that says which version a runtime has,
// so that it is asked once for all shims of a boot, or of its own next release.
type versionNote struct {
	ID      binaryID
	Version Version
}

// KnownVersion is the runtime's version, from a note that an earlier shim has left,
// or from the runtime itself.
func (r *Runtime) KnownVersion(ctx context.Context) (Version, error) {
	id, err := identify(r.cfg.Binary)
	if err != nil {
		return Version{}, fmt.Errorf("OCI runtime: %w", err)
	}
	path := r.versionNotePath(id)
	var n versionNote
	if readPrivate(path, &n) && n.ID == id {
		return n.Version, nil
	}
	v, err := r.Version(ctx)
	if err != nil {
		return Version{}, err
	}
	writePrivate(path, versionNote{id, v})
	return v, nil
}

// versionNotePath has a name for each path of a runtime: a node may have several.
func (r *Runtime) versionNotePath(id binaryID) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(id.Path)) // a hash takes all
	return filepath.Join(filepath.Dir(r.cfg.Bundle), fmt.Sprintf(".quoin-oci-version-%x.json", sum.Sum64()))
}
