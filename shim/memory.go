// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"runtime"
	"runtime/debug"

	"github.com/containerd/log"
)

// gcPercent trades a little CPU, in a process that sleeps nearly always, for a
// heap that stays small: there is one of these per pod.
const gcPercent = 40

// settle gives back what starting took.
func settle() {
	debug.SetGCPercent(gcPercent)
}

// dumpStacks logs what every goroutine does.
func dumpStacks() {
	for size := 16 << 10; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			log.L.Infof("goroutines:\n%s", buf[:n])
			return
		}
	}
}
