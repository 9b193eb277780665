// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// StateDir is the plugin's directory within the daemon's state directory, where
// the decision is kept.
const StateDir = string(Type) + "." + ID

// Look gathers what the decision rests on, for a program that is not the
// daemon: Unit, Path and Delegated are then that program's own. Every path is
// taken below root, "" for the real host. ask asks systemd's manager for the
// unit of this process; nil does so over D-Bus. Look takes at most as long as
// ctx allows, and 2 s for D-Bus.
func Look(ctx context.Context, root string, ask func(context.Context) (string, error)) (Facts, error) {
	if ask == nil {
		ask = askManager
	}
	return prober{root: root, askUnit: ask}.probe(ctx)
}

// Predict tells what a daemon would decide that starts now with this setting
// and keeps its state in the directory state. It changes nothing. A record of
// an earlier decision that cannot be understood is told among the warnings; one
// that only root may read counts for none.
//
// Errors: ErrFailedPrecondition, where the setting cannot work, and
// ErrInvalidArgument, where there is no such setting; either says what to do.
func Predict(setting Setting, f Facts, state string) (Decision, error) {
	earlier, unreadable := loadRecord(filepath.Join(state, StateDir), f.BootID)
	d, err := decide(setting, f, earlier)
	if err == nil && unreadable != nil && !errors.Is(unreadable, fs.ErrPermission) {
		d.warn("%v", unreadable)
	}
	return d, err
}

// ShimDriver is the driver that a shim takes whose daemon tells it none, as
// stock containerd does.
func (f Facts) ShimDriver() cgroup.Driver { return f.Node(cgroup.Unset).Driver }

// Disagreement tells how a container's cgroupsPath disagrees with the node's
// driver ("systemd" or "cgroupfs"); nil if it does not. A path that leads through a slice, but not in
// systemd's form, was written for systemd too: it is what placing by cgroupfs
// makes of that form.
//
// Errors: ErrInvalidArgument for a path that no driver can place.
func (f Facts) Disagreement(cgroupsPath, nodeDriver string) (*cgroup.Disagreement, error) {
	driver := cgroup.Driver(nodeDriver)
	node := f.Node(driver)
	p, err := cgroup.Translate(cgroupsPath, node)
	if err != nil || p.Disagreement != nil {
		return p.Disagreement, err
	}
	if p.Driver == cgroup.Cgroupfs && throughSlice(cgroupsPath) {
		return &cgroup.Disagreement{CgroupsPath: cgroupsPath, Shape: cgroup.Systemd, Node: driver, Used: cgroup.Cgroupfs}, nil
	}
	return nil, nil
}

func throughSlice(path string) bool {
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if filepath.Ext(dir) == ".slice" {
			return true
		}
	}
	return false
}

// VersionWarning is what a decision warns of on a host with cgroup v1; "" for
// cgroup v2.
func VersionWarning(mode cgroup.Mode) string {
	if mode != cgroup.Legacy && mode != cgroup.Hybrid {
		return ""
	}
	return "the host uses cgroup v1 (" + mode.String() + "), which kubelet refuses by default since 1.35: boot it with cgroup v2"
}
