// SPDX-License-Identifier: Apache-2.0

package ctr

import (
	"os"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(harness.StockD, harness.StockCtr)...))
}

// onBoth runs a test against quoind and against stock containerd.
func onBoth(t *testing.T, test func(*testing.T, *harness.Daemon)) {
	t.Parallel()
	for _, spec := range harness.Both() {
		t.Run(string(spec.Kind), func(t *testing.T) {
			t.Parallel()
			d := harness.Shared(t, spec)
			d.Busybox(t)
			test(t, d)
		})
	}
}

// detached starts a container that sleeps, as `run --detach` does, and removes
// it at the end.
func detached(t *testing.T, d *harness.Daemon, id string, args ...string) {
	t.Helper()
	if len(args) == 0 {
		args = []string{"sleep", "1000"}
	}
	t.Cleanup(func() { d.Remove(t, id) })
	d.MustCLI(t, append([]string{"run", "--runtime", d.Runtime, "--detach", harness.BusyboxRef, id}, args...)...)
}
