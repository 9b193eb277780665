// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Part is a file that a package's tests need.
type Part struct {
	// Name says what it is, for the message when it is missing.
	Name string
	// Path finds it.
	Path func() string
}

// The parts that tests ask for.
var (
	Quoind    = product("quoind")
	Shim      = product("containerd-shim-quoin-v1")
	Quoinctl  = product("quoinctl")
	Runc      = product("runc")
	StockCtr  = stockPart("ctr")
	StockD    = stockPart("containerd")
	StockShim = stockPart("containerd-shim-runc-v2")

	BusyboxStatic = installed("busybox-static", "/bin/busybox")
	DebianRunc    = installed("Debian's runc", "/usr/sbin/runc")
	Crun          = installed("crun", "/usr/bin/crun")
	CNI           = installed("the CNI plugins", "/usr/lib/cni/bridge")
	Registry      = installed("docker-registry", "/usr/bin/docker-registry")
	Dockerd       = installed("dockerd", "/usr/sbin/dockerd")
	Docker        = installed("Debian's docker", "/usr/bin/docker")
	OldContainerd = installed("Debian's containerd 1.6", "/usr/bin/containerd")
)

func product(name string) Part {
	return Part{Name: name, Path: func() string { return filepath.Join(BinDir(), name) }}
}

func stockPart(name string) Part {
	return Part{Name: "stock " + name, Path: func() string { return filepath.Join(StockDir(), name) }}
}

func installed(name, path string) Part {
	return Part{Name: name, Path: func() string { return path }}
}

// Core are the parts that every package needs.
func Core(more ...Part) []Part {
	parts := []Part{Quoind, Shim, Quoinctl, Runc, BusyboxStatic}
	if Reference() {
		parts = []Part{StockD, StockCtr, StockShim, Runc, BusyboxStatic}
	}
	return append(parts, more...)
}

// Reference says whether the suite runs against stock containerd and its runc
// shim instead of Quoin (QUOIN_REFERENCE=1). That is how a test is shown to
// ask for what the reference does.
func Reference() bool { return os.Getenv("QUOIN_REFERENCE") == "1" }

// BinDir is where the product's binaries are: QUOIN_BIN, else bin in the
// repository.
func BinDir() string {
	if dir := os.Getenv("QUOIN_BIN"); dir != "" {
		return dir
	}
	return filepath.Join(repository(), "bin")
}

// StockDir is where the binaries of stock containerd are: QUOIN_STOCK, else
// bin/stock in the repository.
func StockDir() string {
	if dir := os.Getenv("QUOIN_STOCK"); dir != "" {
		return dir
	}
	return filepath.Join(repository(), "bin", "stock")
}

// repository is the nearest parent directory with a go.mod; tests start in
// the directory of their package.
var repository = sync.OnceValue(func() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	return dir
})

func checkParts(parts []Part) error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("the integration tests need root: run `make test` as root"))
	}
	for _, p := range parts {
		if _, err := os.Stat(p.Path()); err != nil {
			errs = append(errs, fmt.Errorf("%s is missing (%s): run `make test`, which builds and installs every part", p.Name, p.Path()))
		}
	}
	return errors.Join(errs...)
}
