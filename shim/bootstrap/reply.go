// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"os"
	"path/filepath"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/pkg/atomicfile"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
)

// apiVersion is the Task API that a new daemon is told to speak. With 3,
// containers join a pod's shim without another "start".
const apiVersion = 3

// Reply is what "start" writes to standard output, and nothing beside it.
//
// A new daemon gets a BootstrapResult. Its MountCapabilities are empty, which
// says that this shim mounts what the mount manager hands it and needs no help
// to find that out; without them containerd would ask the binary (-info) for
// every runtime name but the runc shim's (core/runtime/v2/task_mounts.go).
//
// A Legacy daemon gets the plain address. containerd 1.6, the one that Debian's
// dockerd uses, takes the whole output for the address. 1.7 to 2.2 would also
// read JSON, with a version of at most 2 (1.7) or 3 (2.x), but cannot be told
// apart from here: all of them set MAX_SHIM_VERSION=2. The plain address means
// to them what version 2 would.
func Reply(p Params, address string) ([]byte, error) {
	if _, err := socketPath(address); err != nil {
		return nil, err
	}
	if p.Legacy {
		return []byte(address), nil
	}
	result := &bootapi.BootstrapResult{Version: apiVersion, Protocol: "ttrpc", Address: address}
	if err := result.AddExtension(&types.MountCapabilities{}); err != nil {
		return nil, fmt.Errorf("encode mount capabilities: %w", err)
	}
	out, err := proto.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("encode the reply to start: %w", err)
	}
	return out, nil
}

// WriteAddress leaves the shim's address in the bundle. A Legacy daemon that was
// restarted, or replaced by a newer one, finds the shim by it; without it the
// container is taken for lost.
func WriteAddress(bundle, address string) error {
	if _, err := socketPath(address); err != nil {
		return err
	}
	return replaceFile(filepath.Join(bundle, "address"), address)
}

// WriteBinaryPath leaves the absolute path of the shim's executable in the
// bundle, for containers that joined a running shim: containerd writes the file
// only for those that it called "start" for, and after a restart would look for
// another binary by the runtime's name.
func WriteBinaryPath(bundle, executable string) error {
	if !filepath.IsAbs(executable) {
		return fmt.Errorf("shim executable %q is not an absolute path: %w", executable, errdefs.ErrInvalidArgument)
	}
	return replaceFile(filepath.Join(bundle, "shim-binary-path"), executable)
}

// replaceFile is seen by readers as the old file or the whole new one. The new
// one is a regular file even where a symbolic link was.
func replaceFile(path, content string) error {
	f, err := atomicfile.New(path, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		_ = f.Cancel() // the first error tells more
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Remove unlinks the socket at path; one that is gone already is no error. A
// shim calls it before it closes its listener: afterwards the path could belong
// to its successor.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove shim socket: %w", err)
	}
	return nil
}
