// SPDX-License-Identifier: Apache-2.0

package program

import "os/exec"

// Children starts and waits for the children of a process that reaps no orphans.
type Children struct{}

// Start is cmd.Start after [Warm].
func (Children) Start(cmd *exec.Cmd) error {
	Warm(cmd)
	return cmd.Start()
}

// Wait is cmd.Wait.
func (Children) Wait(cmd *exec.Cmd) error { return cmd.Wait() }
