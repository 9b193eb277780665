// SPDX-License-Identifier: Apache-2.0

//go:build failpoints

package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Set by the linker: where to fail, and how: exit, kill or hang.
var failAt, failHow string

// failpoint fails where the build is told to.
func failpoint(at string) {
	if at != failAt {
		return
	}
	switch failHow {
	case "exit":
		os.Exit(1)
	case "kill":
		if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	select {}
}
