// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
)

// Driver says who makes a container's cgroup.
type Driver string

// The drivers, with the names that kubelet and containerd's users know.
const (
	// Unset means that nothing was asked for: the node's driver is used.
	Unset Driver = ""
	// Systemd has systemd make a scope for the container.
	Systemd Driver = "systemd"
	// Cgroupfs has the OCI runtime make directories.
	Cgroupfs Driver = "cgroupfs"
)

// Shape returns the driver that a config.json's linux.cgroupsPath is written
// for. "slice:prefix:name", the form of runc, crun and kubelet's systemd
// driver, means Systemd; any other path means Cgroupfs; "" means Unset.
func Shape(cgroupsPath string) Driver {
	switch {
	case cgroupsPath == "":
		return Unset
	case strings.Count(cgroupsPath, ":") == 2 && !strings.Contains(cgroupsPath, "/"):
		return Systemd
	default:
		return Cgroupfs
	}
}

// defaultSlice is where the OCI runtimes put a scope whose slice is not named.
const defaultSlice = "system.slice"

// fsPath returns the cgroupfs path of either shape, absolute and clean. It
// never leads out of the hierarchy.
func fsPath(cgroupsPath string) (string, error) {
	if Shape(cgroupsPath) != Systemd {
		return path.Clean("/" + cgroupsPath), nil
	}
	parts := strings.Split(cgroupsPath, ":")
	slice, prefix, name := parts[0], parts[1], parts[2]
	if slice == "" {
		slice = defaultSlice
	}
	parent, err := expandSlice(slice)
	if err != nil {
		return "", fmt.Errorf("cgroupsPath %q: %w", cgroupsPath, err)
	}
	if name == "" || name == "." || name == ".." {
		return "", fmt.Errorf("cgroupsPath %q: %q is no name for a unit: %w", cgroupsPath, name, errdefs.ErrInvalidArgument)
	}
	return path.Join(parent, unitName(prefix, name)), nil
}

// unitName follows runc: a name that is a slice stays as it is, anything else
// becomes a scope.
func unitName(prefix, name string) string {
	switch {
	case strings.HasSuffix(name, ".slice"):
		return name
	case prefix == "":
		return name + ".scope"
	default:
		return prefix + "-" + name + ".scope"
	}
}

// expandSlice gives the directory of a slice, per systemd.slice(5): a dash
// separates a slice from the slice it lies in, so that "a-b.slice" is at
// /a.slice/a-b.slice; "-.slice" is the root.
func expandSlice(slice string) (string, error) {
	stem, ok := strings.CutSuffix(slice, ".slice")
	if slice == "-.slice" {
		return "/", nil
	}
	if !ok || stem == "" || strings.ContainsAny(slice, "/:") {
		return "", fmt.Errorf("%q is not the name of a slice, which ends in .slice: %w", slice, errdefs.ErrInvalidArgument)
	}
	dir, prefix := "/", ""
	for part := range strings.SplitSeq(stem, "-") {
		if part == "" {
			return "", fmt.Errorf("%q is not the name of a slice: it has an empty part: %w", slice, errdefs.ErrInvalidArgument)
		}
		dir = path.Join(dir, prefix+part+".slice")
		prefix += part + "-"
	}
	return dir, nil
}

// SliceEnv is the environment variable by which the daemon, or an administrator,
// tells the shims in which slice systemd is to make their scopes: the name of a
// slice, or PodSlice. Unset means system.slice.
const SliceEnv = "QUOIN_SHIM_SLICE"

// PodSlice stands for the slice of the pod that a shim serves.
const PodSlice = "pod"
