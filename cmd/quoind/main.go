// SPDX-License-Identifier: Apache-2.0

// Command quoind is containerd with Quoin's plugins compiled in.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/quoin-io/quoin/cmd/quoind/daemon"
)

func main() {
	app, err := daemon.App()
	if err == nil {
		err = app.Run(context.Background(), os.Args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quoind:", err)
		os.Exit(1)
	}
}
