// SPDX-License-Identifier: Apache-2.0

// Command quoinctl is ctr with Quoin's runtime and socket as its defaults.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/quoin-io/quoin/cmd/quoinctl/ctl"
)

func main() {
	if err := ctl.App().Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "quoinctl:", err)
		os.Exit(1)
	}
}
