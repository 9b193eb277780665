// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Start starts a command and owns its process from before the janitor could see
// it dead. Wait must follow.
func (r *Reaper) Start(cmd *exec.Cmd) error {
	warm(cmd.Path)
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

// warm reads the beginning of a program that is about to be executed. os/exec holds
// a lock of the whole process while the kernel does (it forks by vfork): on a file
// system that does not answer, the wait has to be here, where it holds up nobody.
func warm(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return // the execution will say so
	}
	defer f.Close()
	_, _ = f.ReadAt(make([]byte, 512), 0)
}
