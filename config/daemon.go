// SPDX-License-Identifier: Apache-2.0

package config

import (
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
)

// Limits of paths to sockets.
const (
	// maxSocketPath is what sun_path holds, less the closing zero (unix(7)).
	maxSocketPath = 107
	// maxSocketDir is what containerd allows for the directory of shims'
	// sockets, whose names are 64 hexadecimal digits (core/runtime/v2).
	maxSocketDir = 42
)

//go:embed quoind.toml
var quoindTOML string

// QuoindTOML is the shipped quoind.toml: the values in which quoind differs
// from containerd, compiled in as quoind's defaults.
func QuoindTOML() string { return quoindTOML }

// Daemon says where quoind keeps its files. None of them is containerd's, so
// both can run on one machine.
type Daemon struct {
	// Config is the file that is read when no other is named.
	Config string
	// DropIns is the pattern of further files, which override Config.
	DropIns string
	// Root holds what survives a reboot.
	Root string
	// State holds what does not.
	State string
	// Address is the gRPC socket.
	Address string
}

// DefaultDaemon returns the places that quoind uses unless told otherwise.
func DefaultDaemon() Daemon {
	return Daemon{
		Config:  "/etc/quoind/config.toml",
		DropIns: "/etc/quoind/conf.d/*.toml",
		Root:    "/var/lib/quoind",
		State:   "/run/quoind",
		Address: "/run/quoind/quoind.sock",
	}
}

// Validate reports what makes the places unusable. The error names the
// setting and the fix.
func (d Daemon) Validate() error {
	switch {
	case !filepath.IsAbs(d.Root):
		return fmt.Errorf("root %q: must be an absolute path", d.Root)
	case !filepath.IsAbs(d.State):
		return fmt.Errorf("state %q: must be an absolute path", d.State)
	case filepath.Clean(d.Root) == filepath.Clean(d.State):
		return fmt.Errorf("root and state are both %q: they must differ", d.Root)
	case d.Address == "":
		return errors.New("the gRPC address is empty: name a socket, or leave the default")
	case len(d.TTRPCAddress()) > maxSocketPath:
		return fmt.Errorf("address %q: a socket's path holds %d bytes, and %q is added to it: choose a shorter one",
			d.Address, maxSocketPath, ".ttrpc")
	}
	return nil
}

// TTRPCAddress is the socket beside Address over which shims report.
func (d Daemon) TTRPCAddress() string { return d.Address + ".ttrpc" }

// ShimSocketDir is where shims listen: in State when the path is short enough
// for containerd, else in the default State. The names in it are hashes that
// include Address, so daemons may share it.
func (d Daemon) ShimSocketDir() string {
	if dir := filepath.Join(d.State, "s"); len(dir) <= maxSocketDir {
		return dir
	}
	return filepath.Join(DefaultDaemon().State, "s")
}

// NRISocket is where NRI plugins connect, or "" when its path would be too
// long for a socket.
func (d Daemon) NRISocket() string {
	if path := filepath.Join(d.State, "nri.sock"); len(path) <= maxSocketPath {
		return path
	}
	return ""
}
