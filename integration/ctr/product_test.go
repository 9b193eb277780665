// SPDX-License-Identifier: Apache-2.0

package ctr

import (
	"strings"
	"testing"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// TestDefaults: quoinctl needs no --runtime.
func TestDefaults(t *testing.T) {
	d := quoind(t)
	id := harness.ID(t)
	t.Cleanup(func() { d.Remove(t, id) })
	d.MustCLI(t, "run", "--detach", harness.BusyboxRef, id, "sleep", "1000")
	if out := d.MustCLI(t, "containers", "info", id); !strings.Contains(out, `"`+config.RuntimeType+`"`) {
		t.Errorf("quoinctl's default runtime is not %s:\n%s", config.RuntimeType, out)
	}
}

// TestPlugins: what quoind adds is visible beside containerd's own.
func TestPlugins(t *testing.T) {
	d := quoind(t)
	out := d.MustCLI(t, "plugins", "list")
	for _, want := range []string{"cgroupdriver", "io.containerd.runtime.v2"} {
		found := false
		for line := range strings.Lines(out) {
			if strings.Contains(line, want) {
				found = true
				if fields := strings.Fields(line); fields[len(fields)-1] != "ok" {
					t.Errorf("plugin %s: %s", want, line)
				}
			}
		}
		if !found {
			t.Errorf("no plugin %q in\n%s", want, out)
		}
	}
}

// quoind is the product's daemon; the tests that use it are about the product
// alone, so the reference run leaves them out.
func quoind(t *testing.T) *harness.Daemon {
	t.Helper()
	if harness.Reference() {
		t.Skip("QUOIN_REFERENCE runs stock containerd")
	}
	d := harness.Shared(t, harness.Spec{Kind: harness.KindQuoind})
	d.Busybox(t)
	return d
}
