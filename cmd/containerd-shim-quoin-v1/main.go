// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-quoin-v1 is Quoin's containerd shim.
package main

import (
	"context"
	"os"

	"github.com/quoin-io/quoin/shim"
)

func main() {
	os.Exit(shim.Run(context.Background(), os.Args))
}
