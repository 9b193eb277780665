// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// Names of the files in a bundle.
const (
	configFile     = "config.json"
	initPidFile    = "init.pid"
	logFile        = "log.json"
	optionsFile    = "options.json"
	runtimeFile    = "runtime"
	shimBinaryFile = "shim-binary-path"
	workDir        = "work"
	rootfsDir      = "rootfs"
)

// Bundle is one bundle directory. It holds nothing but the path: copies and
// concurrent use are fine, and a Bundle needs no closing.
type Bundle struct {
	path string
}

// Open returns the bundle at path, which must be absolute and a directory.
//
// Errors: errdefs.ErrInvalidArgument for a path that is relative or not a
// directory, errdefs.ErrNotFound when there is nothing.
func Open(path string) (*Bundle, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("bundle path %q is not absolute: %w", path, errdefs.ErrInvalidArgument)
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("bundle %q does not exist: %w", path, errdefs.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("open bundle: %w", err)
	case !st.IsDir():
		return nil, fmt.Errorf("bundle %q is not a directory: %w", path, errdefs.ErrInvalidArgument)
	}
	return &Bundle{path: filepath.Clean(path)}, nil
}

// At is the bundle at a path that Open has taken before, whatever has become of it.
func At(path string) *Bundle { return &Bundle{path: filepath.Clean(path)} }

// Path of the bundle directory, absolute and clean.
func (b *Bundle) Path() string { return b.path }

// ConfigPath is where containerd wrote the OCI spec.
func (b *Bundle) ConfigPath() string { return filepath.Join(b.path, configFile) }

// InitPidPath is the pid file of the container's init, decimal, no newline.
func (b *Bundle) InitPidPath() string { return filepath.Join(b.path, initPidFile) }

// ExecPidPath is the pid file of the exec with that id, which must have passed
// CheckID. The exec named "init" gets a name of its own, since containerd
// allows that id and init.pid is taken.
func (b *Bundle) ExecPidPath(execID string) string {
	if execID == "init" {
		return filepath.Join(b.path, ".exec-init.pid") // no valid id begins with a dot
	}
	return filepath.Join(b.path, execID+".pid")
}

// LogPath is the log of the OCI runtime, JSON lines.
func (b *Bundle) LogPath() string { return filepath.Join(b.path, logFile) }

// WorkPath is the directory for the runtime's scratch files (criu's, above
// all). containerd makes it a link to a directory that outlives a reboot.
func (b *Bundle) WorkPath() string { return filepath.Join(b.path, workDir) }

// RootfsPath is where the task's root filesystem is mounted.
func (b *Bundle) RootfsPath() string { return filepath.Join(b.path, rootfsDir) }

// ShimBinaryPath is the file that tells a restarted containerd which shim
// binary cleans up this bundle.
func (b *Bundle) ShimBinaryPath() string { return filepath.Join(b.path, shimBinaryFile) }

// WriteShimBinary records the absolute path of the shim's executable. containerd
// does this only for the task that started a shim; a task that joined one would
// otherwise be cleaned up by whatever shim its runtime's name resolves to.
func (b *Bundle) WriteShimBinary(binary string) error {
	if !filepath.IsAbs(binary) {
		return fmt.Errorf("shim binary %q is not an absolute path: %w", binary, errdefs.ErrInvalidArgument)
	}
	return writeFile(b.ShimBinaryPath(), []byte(binary))
}

// writeFile replaces the file in one step: a shim that is killed in the middle
// leaves the old file or the new one, never half of it. There is no fsync: a
// bundle lives on a tmpfs and means nothing after a reboot.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data) // CreateTemp's mode is 0600, as the runc shim's
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
