// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// DefaultSocketDir is where containerd's own shims put their sockets, and where
// "ctr shim" looks for them.
const DefaultSocketDir = "/run/containerd/s"

// maxSocketPath is the longest path that containerd's shims listen at, in bytes:
// one less than the 107 that fit in sockaddr_un beside the final NUL.
const maxSocketPath = 106

// Annotations that put containers into one shim; the first that is set wins.
const (
	// GroupAnnotation is the runc shim's own way to ask for a group.
	GroupAnnotation = "io.containerd.runc.v2.group"
	// SandboxAnnotation carries the pod's id; CRI sets it on each of its containers.
	SandboxAnnotation = "io.kubernetes.cri.sandbox-id"
)

const unixScheme = "unix://"

// Group names the set of containers that share a shim: what the annotations of
// the container's spec ask for, else the container alone.
func Group(annotations map[string]string, id string) string {
	for _, key := range []string{GroupAnnotation, SandboxAnnotation} {
		if group := annotations[key]; group != "" {
			return group
		}
	}
	return id
}

// SocketPath is where the shim of a group listens. The name is the one that
// containerd's shims have (pkg/shim, CreateSocketAddress), so "ctr shim" finds
// it. An empty dir means DefaultSocketDir.
//
// A namespace or group that would reach another namespace's sockets, and a path
// too long for a socket, are errdefs.ErrInvalidArgument.
func SocketPath(dir, grpcAddress, namespace, group string) (string, error) {
	if dir == "" {
		dir = DefaultSocketDir
	}
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("socket directory %q is not an absolute path: %w", dir, errdefs.ErrInvalidArgument)
	}
	if err := checkName("namespace", namespace); err != nil {
		return "", err
	}
	if clean := filepath.Clean(group); !filepath.IsLocal(group) || clean == "." {
		return "", fmt.Errorf("shim group %q leads out of namespace %q: %w", group, namespace, errdefs.ErrInvalidArgument)
	}
	sum := sha256.Sum256([]byte(filepath.Join(grpcAddress, namespace, group)))
	path := fmt.Sprintf("%s/%x", strings.TrimRight(dir, "/"), sum)
	if err := checkLength(path); err != nil {
		return "", err
	}
	return path, nil
}

func checkLength(path string) error {
	if len(path) <= maxSocketPath {
		return nil
	}
	return fmt.Errorf("socket path %q has %d bytes, %d are possible: set socket_dir in [plugins.'io.containerd.shim.v1.manager'] to a directory of at most %d bytes: %w",
		path, len(path), maxSocketPath, maxSocketPath-2*sha256.Size-1, errdefs.ErrInvalidArgument)
}

// Address is the form in which a socket's path is told to others.
func Address(path string) string { return unixScheme + path }

// socketPath is the path in an address. A bare name would be an abstract socket
// to containerd, which any process of the network namespace can take and reach.
func socketPath(address string) (string, error) {
	path, ok := strings.CutPrefix(address, unixScheme)
	if !ok || !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("shim address %q is not %s and an absolute path; abstract sockets and other transports are not used: %w",
			address, unixScheme, errdefs.ErrInvalidArgument)
	}
	return path, nil
}

// Dial connects to a shim. An address that is no path in the file system is
// errdefs.ErrInvalidArgument.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	path, err := socketPath(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to shim at %s: %w", address, err)
	}
	return conn, nil
}
