// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
)

const (
	// insideArg makes this program the container's.
	insideArg = "inside"
	// childArg makes it the container's second process.
	childArg = "child"
	// readyLine is the last line the container prints before it waits.
	readyLine = "ready: waiting for a line on standard input"
	// exitCode is what the container ends with.
	exitCode = 7
)

// inside is what runs in the container: it starts a child, says what it sees,
// and ends with exitCode when it gets a line.
func inside(args []string) int {
	input := bufio.NewReader(os.Stdin)
	if len(args) > 0 && args[0] == childArg {
		_, _ = input.ReadString('\n') // until the parent's end closes it
		return 0
	}
	child := exec.Command("/proc/self/exe", insideArg, childArg)
	end, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inside: starting a child:", err)
		return 1
	}
	host, err := os.Hostname()
	if err != nil {
		host = err.Error()
	}
	fmt.Printf("hello from the container: I am pid %d on host %q; my child is pid %d\n", os.Getpid(), host, child.Process.Pid)
	fmt.Println(readyLine)
	line, _ := input.ReadString('\n')
	fmt.Printf("got %q; leaving with exit code %d\n", line, exitCode)
	end.Close()
	if err := child.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "inside: waiting for the child:", err)
		return 1
	}
	return exitCode
}
