// SPDX-License-Identifier: Apache-2.0

package shims

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/bundle"
)

// Shim is one that serves bundles.
type Shim struct {
	// Namespace is containerd's.
	Namespace string
	// Address of its socket, as the bundles name it.
	Address string
	// Bundles that it serves, sorted by id.
	Bundles []Bundle
}

// Bundle of one container.
type Bundle struct {
	ID   string
	Path string
}

// Find lists the shims whose bundles are below a daemon's state directory,
// sorted by namespace and first bundle. Beside what it found it returns an error
// for each bundle that could not be read. A bundle that no shim has been started
// for yet is left out. A state directory without bundles is errdefs.ErrNotFound.
func Find(state string) ([]Shim, error) {
	root := filepath.Join(state, config.BundlesDir)
	namespaces, err := subdirectories(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no state directory of a daemon, %s does not exist: %w", state, root, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var all []Shim
	var errs []error
	for _, ns := range namespaces {
		found, err := findIn(root, ns)
		all = append(all, found...)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// Address of the shim that serves a container's bundle. It is errdefs.ErrNotFound
// when there is none, errdefs.ErrInvalidArgument for what is no id.
func Address(state, namespace, id string) (string, error) {
	for _, name := range []string{namespace, id} {
		if err := bundle.CheckID(name); err != nil {
			return "", err
		}
	}
	return bootstrap.BundleAddress(filepath.Join(state, config.BundlesDir, namespace, id))
}

// findIn lists the shims of one namespace. What vanishes meanwhile was not there.
func findIn(root, ns string) ([]Shim, error) {
	ids, err := subdirectories(filepath.Join(root, ns))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list bundles of namespace %q: %w", ns, err)
	}
	byAddress := map[string]*Shim{}
	var errs []error
	for _, id := range ids {
		b := Bundle{ID: id, Path: filepath.Join(root, ns, id)}
		address, err := bootstrap.BundleAddress(b.Path)
		switch {
		case errdefs.IsNotFound(err):
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		}
		s := byAddress[address]
		if s == nil {
			s = &Shim{Namespace: ns, Address: address}
			byAddress[address] = s
		}
		s.Bundles = append(s.Bundles, b)
	}
	found := make([]Shim, 0, len(byAddress))
	for _, s := range byAddress {
		found = append(found, *s)
	}
	slices.SortFunc(found, func(a, b Shim) int { return cmp.Compare(a.Bundles[0].ID, b.Bundles[0].ID) })
	return found, errors.Join(errs...)
}

// subdirectories are sorted by name; hidden ones are none of containerd's.
func subdirectories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
