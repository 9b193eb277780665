// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"

	"github.com/quoin-io/quoin/integration/harness"
)

// faultyRuntime is runc behind a script that does one step wrong, once.
type faultyRuntime struct{ dir string }

// faultyScript runs runc, or for a step that has a fault the fault's lines of shell.
// They find runc as real, and $pidfile and $log as runc was told.
const faultyScript = `#!/bin/sh
step= pidfile= log= last=
for arg; do
	case $last in --pid-file) pidfile=$arg ;; --log) log=$arg ;; esac
	last=$arg
	case $arg in create | start | exec | kill | delete) step=${step:-$arg} ;; esac
done
dir=%[1]s
real() { %[2]s "$@"; }
if mv "$dir/$step" "$dir/$step.$$" 2>/dev/null; then
	. "$dir/$step.$$"
fi
exec %[2]s "$@"
`

func newFaultyRuntime(t *testing.T) *faultyRuntime {
	t.Helper()
	f := &faultyRuntime{dir: t.TempDir()}
	if err := os.WriteFile(f.path(), fmt.Appendf(nil, faultyScript, f.dir, harness.Runc.Path()), 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *faultyRuntime) path() string { return filepath.Join(f.dir, "faulty-runc") }

func (f *faultyRuntime) options() *options.Options { return &options.Options{BinaryName: f.path()} }

// fail makes the next run of a step do these lines of shell instead.
func (f *faultyRuntime) fail(t *testing.T, step, lines string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, step), []byte(lines+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// met tells whether the step has come since.
func (f *faultyRuntime) met(step string) bool {
	_, err := os.Stat(filepath.Join(f.dir, step))
	return err != nil
}
