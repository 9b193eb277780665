// SPDX-License-Identifier: Apache-2.0

package program

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Warm looks at whatever the kernel will look at when cmd is started: its program,
// and the directory that it starts in. It comes before each cmd.Start of what may be
// on a file system that does not answer.
//
// os/exec forks by vfork: until the kernel has opened the program, the thread that
// forks stands still, together with the processor of Go's scheduler that it has, and
// with the lock that every other fork needs. The next garbage collection waits for
// that processor, and the whole process with it. Here the wait is in a system call
// like any other, which holds up only the goroutine that makes it. What is left is a
// file system that answers now and not some microseconds later.
//
// What cannot be looked at is left for the start to tell.
func Warm(cmd *exec.Cmd) {
	if cmd.Dir != "" {
		_, _ = os.Stat(cmd.Dir)
	}
	// A FIFO without a writer must not hold up anybody either.
	f, err := os.OpenFile(cmd.Path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.ReadAt(make([]byte, 512), 0)
}
