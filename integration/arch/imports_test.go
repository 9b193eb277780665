// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// leaves are the packages that know nothing of one another: each could be used,
// and is tested, alone.
var leaves = []string{
	"shim/bootstrap", "shim/bundle", "shim/cgroup", "shim/control", "shim/events", "shim/ledger",
	"shim/oci", "shim/reaper", "shim/stdio", "shim/upgrade",
}

// base is what the leaves, too, may import.
var base = []string{"config", "shim/program"}

// forPlugins are the leaves that make sense outside a shim's process.
var forPlugins = []string{"shim/bootstrap", "shim/bundle", "shim/cgroup", "shim/control", "shim/ledger", "shim/oci"}

// mayImport says what one package of ours may import of ours, as paths in the
// module; what is below its own folder in cmd, plugins and integration goes
// without saying.
func mayImport(from, to string) bool {
	if slices.Contains(base, to) && !slices.Contains(base, from) {
		return true
	}
	switch top, _, _ := strings.Cut(from, "/"); {
	case from == "shim":
		return to == "shim/task" || to == "shim/container" || slices.Contains(leaves, to)
	case from == "shim/task":
		return to == "shim/container"
	case from == "shim/container":
		return slices.Contains(leaves, to)
	case top == "shim":
		// A leaf, or a test support package below one.
		parent := from[:strings.LastIndexByte(from, '/')]
		return slices.Contains(leaves, parent) && to == parent
	case top == "cmd":
		return to == "shim" || to == "shim/control" || within(to, "plugins") || within(to, ownFolder(from))
	case top == "plugins":
		return slices.Contains(forPlugins, to) || within(to, ownFolder(from))
	case top == "integration":
		return !within(to, "cmd")
	}
	return false
}

// ownFolder is cmd/x of cmd/x/y.
func ownFolder(path string) string {
	parts := strings.SplitN(path, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// TestImportDirection keeps imports going one way: cmd, then plugins or shim,
// then task, container, the leaves, the base.
func TestImportDirection(t *testing.T) {
	for _, p := range theModule(t).ours {
		for _, i := range p.Imports {
			to, ok := strings.CutPrefix(i, modulePath+"/")
			if ok && !mayImport(p.rel(), to) {
				t.Errorf("%s imports %s", p.rel(), to)
			}
		}
	}
}

func TestRulesThemselves(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"cmd/quoind", "plugins/runtime", true},
		{"cmd/quoind", "cmd/quoind/daemon", true},
		{"cmd/quoind", "cmd/quoinctl/ctl", false},
		{"cmd/containerd-shim-quoin-v1", "shim", true},
		{"cmd/containerd-shim-quoin-v1", "shim/task", false},
		{"cmd/quoinctl/ctl", "shim/control", true},
		{"cmd/quoinctl/ctl", "shim/bundle", false},
		{"plugins/runtime", "shim/bootstrap", true},
		{"plugins/runtime", "shim/stdio", false},
		{"plugins/runtime", "plugins/cgroupdriver", false},
		{"shim", "shim/task", true},
		{"shim/task", "shim/container", true},
		{"shim/container", "shim/task", false},
		{"shim/container", "shim/ledger", true},
		{"shim/ledger", "shim/bundle", false},
		{"shim/ledger", "config", true},
		{"shim/oci", "shim/program", true},
		{"config", "shim/program", false},
		{"shim/program", "config", false},
		{"shim/oci/ocitest", "shim/oci", true},
		{"shim/oci", "shim/oci/ocitest", false},
		{"config", "shim/oci", false},
		{"shim", "integration/harness", false},
	} {
		if got := mayImport(tc.from, tc.to); got != tc.want {
			t.Errorf("%s may import %s: %v", tc.from, tc.to, got)
		}
	}
}

// TestForbidden keeps the resident shim small: there is one per pod, and what it
// links it pays for once per pod, in private memory and in time to start.
func TestForbidden(t *testing.T) {
	const once = "paid once per pod: "
	forbidden := []struct {
		path   string
		below  bool // and everything below it
		reason string
	}{
		{"net/http", false, once + "TLS, HTTP/2, their package variables and init; the shim speaks ttrpc on unix sockets"},
		{"crypto/tls", false, once + "there is no network peer; tables of ciphers and roots"},
		{"google.golang.org/grpc", false, once + "the gRPC client and server; codes and status are enough for ttrpc"},
		{"google.golang.org/grpc/internal/transport", false, once + "the same, by another way"},
		{"go.opentelemetry.io", true, once + "tracing belongs to the daemon"},
		{"github.com/containerd/otelttrpc", true, once + "tracing belongs to the daemon"},
		{"github.com/godbus/dbus", true, "a bus connection is a goroutine, buffers and a thing that hangs; systemd is spoken to by the daemon and by short-lived processes"},
		{"github.com/coreos/go-systemd/v22/dbus", false, "as godbus"},
		{"github.com/containerd/containerd/v2/pkg/shim", false, "it refuses containerd 2.2 and older, and brings plugins and a reaper that takes every child's exit"},
		{"github.com/containerd/containerd/v2/client", false, once + "all of containerd's client"},
		{"github.com/cilium/ebpf", true, "the OCI runtime attaches device programs; the package probes the kernel when it is loaded"},
		{"github.com/opencontainers/runc/libcontainer", true, "the OCI runtime is executed, not embedded"},
		{"k8s.io", true, "the shim knows no Kubernetes but two annotations"},
		{"plugin", false, "needs cgo; the shim is static"},
		{"runtime/cgo", false, "the shim is static"},
		{"testing", false, "test code in a program"},
	}
	m := theModule(t)
	for _, p := range m.ours {
		if !resident(p) {
			continue
		}
		for _, f := range forbidden {
			way := m.chain(p.ImportPath, func(path string) bool {
				return path == f.path || f.below && within(path, f.path)
			})
			if way != nil {
				t.Errorf("%s links %s\n\tby  %s\n\tbut %s", p.rel(), f.path, strings.Join(way, "\n\t    "), f.reason)
			}
		}
	}
}

// resident tells whether a package is part of the shim that stays with a pod.
func resident(p *pkg) bool {
	rel := p.rel()
	return rel == "cmd/containerd-shim-quoin-v1" || within(rel, "shim") && !strings.HasSuffix(rel, "test")
}

// TestChain keeps TestForbidden honest: a chain that is never found forbids nothing.
func TestChain(t *testing.T) {
	m := &module{all: map[string]*pkg{
		"a": {Imports: []string{"b", "c"}},
		"b": {Imports: []string{"d"}},
		"c": {Imports: []string{"x"}},
		"d": {Imports: []string{"x"}},
	}}
	if got := fmt.Sprint(m.chain("a", func(p string) bool { return p == "x" })); got != "[a c x]" {
		t.Error(got)
	}
	if got := m.chain("a", func(p string) bool { return p == "y" }); got != nil {
		t.Error(got)
	}
}
