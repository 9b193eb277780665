// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxConfig bounds config.json in bytes. The largest seen in practice (seccomp
// profile, hundreds of mounts, a full environment) are below 1 MiB.
const maxConfig = 16 << 20

// Facets are what the shim itself needs to know of a config.json. All else is
// between containerd and the OCI runtime.
type Facets struct {
	// OCIVersion is the version of the runtime-spec the file claims.
	OCIVersion string
	// CgroupsPath as given: a path (cgroupfs) or slice:prefix:name (systemd).
	CgroupsPath string
	// Annotations of the container. Not nil.
	Annotations map[string]string
	// RootPath is the root filesystem's directory; relative to the bundle
	// unless absolute. Empty when the spec has no root.
	RootPath string
	// PrivatePIDNamespace tells that the container gets a new PID namespace:
	// the kernel ends all its processes when init exits. When false the shim has
	// to end them.
	PrivatePIDNamespace bool
	// Poststop tells that there are poststop hooks, which run only when the OCI
	// runtime's delete runs.
	Poststop bool
	// Terminal tells that init wants a terminal.
	Terminal bool
	// UID and GID of init.
	UID, GID uint32
	// Cwd of init within the container.
	Cwd string
}

// spec is the part of config.json behind Facets.
type spec struct {
	OCIVersion string `json:"ociVersion"`
	Root       *struct {
		Path string `json:"path"`
	} `json:"root"`
	Process     *process          `json:"process"`
	Annotations map[string]string `json:"annotations"`
	Hooks       *struct {
		Poststop []struct{} `json:"poststop"`
	} `json:"hooks"`
	Linux *struct {
		CgroupsPath string `json:"cgroupsPath"`
		Namespaces  []struct {
			Type string `json:"type"`
			Path string `json:"path"`
		} `json:"namespaces"`
	} `json:"linux"`
}

// Facets reads config.json.
//
// Errors: errdefs.ErrNotFound when there is none; errdefs.ErrInvalidArgument when
// it is malformed, larger than 16 MiB, or asks for a process that CheckProcess
// refuses. Each names the file.
func (b *Bundle) Facets() (Facets, error) {
	path := b.ConfigPath()
	data, err := readBounded(path, maxConfig)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Facets{}, fmt.Errorf("bundle has no OCI spec: %s does not exist: %w", path, errdefs.ErrNotFound)
		}
		return Facets{}, fmt.Errorf("read OCI spec: %w", err)
	}
	f, err := parseFacets(data)
	if err != nil {
		return Facets{}, fmt.Errorf("OCI spec %s: %w", path, err)
	}
	return f, nil
}

func parseFacets(data []byte) (Facets, error) {
	var s spec
	if err := json.Unmarshal(data, &s); err != nil {
		return Facets{}, fmt.Errorf("malformed: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	f := Facets{OCIVersion: s.OCIVersion, Annotations: s.Annotations}
	if f.Annotations == nil {
		f.Annotations = map[string]string{}
	}
	if s.Root != nil {
		f.RootPath = s.Root.Path
	}
	if s.Hooks != nil {
		f.Poststop = len(s.Hooks.Poststop) > 0
	}
	if s.Linux != nil {
		f.CgroupsPath = s.Linux.CgroupsPath
		for _, ns := range s.Linux.Namespaces {
			if ns.Type == "pid" && ns.Path == "" {
				f.PrivatePIDNamespace = true
			}
		}
	}
	if s.Process != nil {
		var err error
		if f.UID, f.GID, err = s.Process.check(); err != nil {
			return Facets{}, err
		}
		f.Terminal, f.Cwd = s.Process.Terminal, s.Process.Cwd
	}
	return f, nil
}

// readBounded reads a regular file of at most limit bytes. It follows no link in
// the file's place: nothing in a bundle is one.
func readBounded(path string, limit int64) ([]byte, error) {
	data, err := readFile(path, unix.O_NOFOLLOW, limit)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: %w", path, errdefs.ErrInvalidArgument)
	}
	return data, err
}

func readFile(path string, flags int, limit int64) ([]byte, error) {
	// O_NONBLOCK: a FIFO in the file's place must not hold the reader.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", path, errdefs.ErrInvalidArgument)
	}
	if st.Size() <= limit {
		// One buffer of the right size; a file that grows meanwhile is cut at
		// the size it had, and then fails to parse.
		data := make([]byte, st.Size())
		n, err := io.ReadFull(f, data)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return data[:n], nil
	}
	return nil, fmt.Errorf("%s is larger than %d bytes: %w", path, limit, errdefs.ErrInvalidArgument)
}
