// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"os"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(harness.StockD, harness.StockCtr, harness.StockShim)...))
}

// onBoth runs a test with a quoind and with a stock containerd that no other
// test uses. name is short: it becomes part of socket paths.
func onBoth(t *testing.T, name string, test func(*testing.T, *harness.Daemon)) {
	t.Parallel()
	for _, spec := range harness.Both() {
		t.Run(string(spec.Kind), func(t *testing.T) {
			t.Parallel()
			spec.Name = name + "-" + string(spec.Kind)
			test(t, harness.Start(t, spec))
		})
	}
}
