// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"os/exec"

	"github.com/quoin-io/quoin/shim/program"
)

// Start starts a command and owns its process from before the janitor could see
// it dead. Wait must follow.
func (r *Reaper) Start(cmd *exec.Cmd) error {
	program.Warm(cmd) // the janitor waits for what follows
	f := r.Begin()
	defer f.End()
	if err := cmd.Start(); err != nil {
		return err
	}
	r.own(cmd.Process.Pid)
	return nil
}

// Wait waits for a command that was started by Start, as cmd.Wait does, but
// without a thread that blocks meanwhile.
func (r *Reaper) Wait(cmd *exec.Cmd) error {
	pid := cmd.Process.Pid
	defer r.disown(pid, false)
	if p, err := openProcess(pid); err == nil {
		// An error means that the wait below does the waiting.
		_ = p.ready()
		p.file.Close()
	}
	return cmd.Wait()
}
