// SPDX-License-Identifier: Apache-2.0

//go:build kubelet

package kubelet

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// binary is the kubelet, beside the product.
var binary = harness.Part{
	Name: "the kubelet, which `make test-kubelet` builds,",
	Path: func() string { return filepath.Join(harness.BinDir(), "kubelet") },
}

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(binary, harness.CNI)...))
}
