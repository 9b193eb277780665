// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-quoin-v1 is Quoin's containerd shim.
package main

import (
	"context"
	"os"
	"runtime"

	"github.com/quoin-io/quoin/shim"
)

func main() {
	// The kernel hangs the containers on the process's first thread, and tells a
	// process that asked for it (PR_SET_PDEATHSIG) of the end of that thread as of its
	// parent's. An upgrade ends all threads but the one that executes the new binary, so
	// that has to be the first. It is this one, and stays this goroutine's.
	runtime.LockOSThread()
	os.Exit(shim.Run(context.Background(), os.Args))
}
