// SPDX-License-Identifier: Apache-2.0

//go:build failpoints

package shim

import (
	"cmp"
	"os"

	"golang.org/x/sys/unix"
)

// failpointEnv says where such a build fails, and how: "taken=kill", say. It may exit,
// kill itself, or hang.
const failpointEnv = "QUOIN_FAILPOINT"

// failpointByLinker is used where the environment says nothing.
var failpointByLinker string

// failpoint fails where it is told to.
func failpoint(at string) {
	switch cmp.Or(os.Getenv(failpointEnv), failpointByLinker) {
	case at + "=exit":
		os.Exit(1)
	case at + "=kill":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL) // nobody can refuse it
		hang()
	case at + "=hang":
		hang()
	}
}

func hang() {
	for {
		_ = unix.Pause() // it returns after each signal
	}
}
