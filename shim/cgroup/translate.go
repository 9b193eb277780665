// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Node is what placement has to know about the node.
type Node struct {
	// Driver is the node's driver: what kubelet was told.
	Driver Driver
	// Systemd says that a systemd is there to make scopes, whatever Driver is.
	Systemd bool
}

// Placement is where and how one container's cgroup is made.
type Placement struct {
	// Driver is never Unset; Systemd means that the OCI runtime must be given
	// --systemd-cgroup.
	Driver Driver
	// Path is the cgroupsPath that config.json must hold when the OCI runtime
	// reads it.
	Path string
	// Rewritten says that Path is not what config.json held.
	Rewritten bool
	// Disagreement is set when the container does not follow the node's
	// driver, which somebody should count and log once.
	Disagreement *Disagreement
}

// Disagreement tells that the shape of a cgroupsPath and the node's driver do
// not match.
type Disagreement struct {
	// CgroupsPath is what config.json held.
	CgroupsPath string
	// Shape is the driver that CgroupsPath is written for, Node the node's,
	// and Used the one that is taken for the container.
	Shape, Node, Used Driver
}

// String says what was found, what was done, and what to put right.
func (d *Disagreement) String() string {
	msg := fmt.Sprintf("cgroupsPath %q is written for the %s cgroup driver, the node's is %s: ", d.CgroupsPath, d.Shape, d.Node)
	if d.Used == d.Shape {
		return msg + fmt.Sprintf("the container is placed by %s; make the client and the node use one driver", d.Used)
	}
	return msg + fmt.Sprintf("no systemd runs here, so the container is placed by %s; set the client's (kubelet's) driver to %s", d.Used, d.Used)
}

// Translate decides how a container's cgroup is made. The shape of cgroupsPath
// wins over the node's driver, with two exceptions:
//
//   - "/k8s.io/<id>", which containerd's CRI writes when the pod has no cgroup
//     parent, expresses no wish: on a systemd node it becomes
//     "system.slice:cri-containerd:<id>".
//   - a systemd shape on a host without systemd becomes the cgroupfs path where
//     systemd would have made the scope, so that the container runs.
//
// "" is left alone: the runtime's default of the node's driver. It fails with
// ErrInvalidArgument when a systemd shape has to become a path and cannot.
func Translate(cgroupsPath string, node Node) (Placement, error) {
	nodeDriver := node.Driver
	if nodeDriver == Unset || (nodeDriver == Systemd && !node.Systemd) {
		nodeDriver = Cgroupfs
	}
	shape := Shape(cgroupsPath)
	p := Placement{Driver: shape, Path: cgroupsPath}
	switch {
	case shape == Unset:
		p.Driver = nodeDriver
		return p, nil
	case nodeDriver == Systemd && isPodless(cgroupsPath):
		p.Driver = Systemd
		p.Path = defaultSlice + ":cri-containerd:" + strings.TrimPrefix(cgroupsPath, podlessParent)
	case shape == Systemd && !node.Systemd:
		dir, err := fsPath(cgroupsPath)
		if err != nil {
			return Placement{}, err
		}
		p.Driver, p.Path = Cgroupfs, dir
	}
	p.Rewritten = p.Path != cgroupsPath
	if shape != nodeDriver && !isPodless(cgroupsPath) {
		p.Disagreement = &Disagreement{CgroupsPath: cgroupsPath, Shape: shape, Node: nodeDriver, Used: p.Driver}
	}
	return p, nil
}

// podlessParent is the parent that containerd gives to containers of the
// namespace of Kubernetes when the client names none.
const podlessParent = "/k8s.io/"

func isPodless(cgroupsPath string) bool {
	id, ok := strings.CutPrefix(cgroupsPath, podlessParent)
	return ok && id != "" && !strings.ContainsAny(id, "/:")
}

// DriverEnv is the environment variable by which the daemon tells its shims
// the node's driver. A shim that finds none, under a stock containerd, decides
// by what it sees of the host.
const DriverEnv = "QUOIN_CGROUP_DRIVER"

// ParseDriver reads the name of a driver; "" is Unset. Anything else fails with
// ErrInvalidArgument.
func ParseDriver(s string) (Driver, error) {
	switch d := Driver(s); d {
	case Unset, Systemd, Cgroupfs:
		return d, nil
	}
	return Unset, fmt.Errorf("unknown cgroup driver %q: write %q or %q: %w", s, Systemd, Cgroupfs, errdefs.ErrInvalidArgument)
}
