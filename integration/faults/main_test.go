// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"os"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.MainInMemory(m, harness.Core(harness.StockD, harness.StockCtr, harness.StockShim)...))
}
