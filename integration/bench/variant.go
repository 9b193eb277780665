// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// stock is the name of the variant that ratios are to.
const stock = "stock"

// variant is a daemon with a shim.
type variant struct {
	name        string
	daemon      string // path of the binary
	shim        string // path of the binary that must turn out to be running
	runtimeType string
}

func variants() []variant {
	stockDaemon := filepath.Join(harness.StockDir(), "containerd")
	shim := filepath.Join(harness.BinDir(), config.ShimBinary)
	return []variant{
		{stock, stockDaemon, filepath.Join(harness.StockDir(), "containerd-shim-runc-v2"), "io.containerd.runc.v2"},
		{"drop-in", stockDaemon, shim, config.RuntimeType},
		{"quoind", filepath.Join(harness.BinDir(), "quoind"), shim, config.RuntimeType},
	}
}

func variantByName(name string) (variant, error) {
	var known []string
	for _, v := range variants() {
		if v.name == name {
			return v, nil
		}
		known = append(known, v.name)
	}
	return variant{}, fmt.Errorf("no variant %q: there are %s", name, strings.Join(known, ", "))
}

// ociRuntime is the program that makes the containers, the same for every
// variant.
type ociRuntime struct {
	name   string
	binary string
	// cgroupV1 hides the cgroup2 mount of a hybrid machine from the daemon and
	// all it starts: crun 1.8.1 does not run where it sees both.
	cgroupV1 bool
	// ociVersion overrides the specification's version: stock containerd hands
	// it to the runtime as it is, and crun 1.8.1 refuses today's.
	ociVersion string
}

func ociRuntimes() []ociRuntime {
	return []ociRuntime{
		{name: "runc", binary: harness.Runc.Path()},
		{name: "crun", binary: harness.Crun.Path(), cgroupV1: true, ociVersion: "1.0.2"},
	}
}

func runtimeByName(name string) (ociRuntime, error) {
	var known []string
	for _, r := range ociRuntimes() {
		if r.name == name {
			return r, nil
		}
		known = append(known, r.name)
	}
	return ociRuntime{}, fmt.Errorf("no OCI runtime %q: there are %s", name, strings.Join(known, ", "))
}

// commonFiles are what every run needs beside daemons, shims and runtimes.
func commonFiles() []string { return []string{harness.BusyboxStatic.Path()} }
