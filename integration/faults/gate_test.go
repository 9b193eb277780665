// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"

	"github.com/quoin-io/quoin/integration/harness"
)

// gatedRuntime is runc behind a script that can be stopped before and after each
// step, so that a fault meets the shim exactly there.
type gatedRuntime struct {
	dir string
}

// gateScript runs runc. At a gate, which is a FIFO named by the step, it tells that
// it is there by opening it to write, which waits for the test to read, and then
// stands until it is killed.
const gateScript = `#!/bin/sh
step=
for arg; do
	case $arg in create | start | exec | kill | delete | restore) step=$arg; break ;; esac
done
gate() {
	if [ -p "$dir/$1-$step" ]; then
		echo >"$dir/$1-$step"
		read -r _ <"$dir/$1-$step-open"
	fi
}
dir=%s
gate before
%s "$@"
status=$?
gate after
exit $status
`

func newGatedRuntime(t *testing.T) *gatedRuntime {
	t.Helper()
	g := &gatedRuntime{dir: t.TempDir()}
	script := fmt.Sprintf(gateScript, g.dir, harness.Runc.Path())
	if err := os.WriteFile(g.path(), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gatedRuntime) path() string { return filepath.Join(g.dir, "gated-runc") }

func (g *gatedRuntime) options() *options.Options { return &options.Options{BinaryName: g.path()} }

// close puts a gate in the way, such as "before-create".
func (g *gatedRuntime) close(t *testing.T, gate string) {
	t.Helper()
	for _, name := range []string{gate, gate + "-open"} {
		if err := syscall.Mkfifo(filepath.Join(g.dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// reached returns when a runtime stands at the gate.
func (g *gatedRuntime) reached(t *testing.T, gate string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(filepath.Join(g.dir, gate))
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-ctx.Done():
		t.Fatalf("nothing has come to the gate %s", gate)
	}
}

// open lets later runtimes pass. Whoever stands at the gate stays there, and is to be
// killed.
func (g *gatedRuntime) open(t *testing.T, gate string) {
	t.Helper()
	if err := os.Remove(filepath.Join(g.dir, gate)); err != nil {
		t.Fatal(err)
	}
}
