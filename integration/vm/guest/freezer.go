// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// holdFreezer keeps a cgroup of the v1 freezer, where there is one, frozen and empty
// for ever. With the first frozen cgroup and with the last the kernel rewrites its own
// code (the static key freezer_active, tested in recalc_sigpending), by way of a
// breakpoint instruction. The emulator, which runs each processor in a thread, may go
// on with what it has translated of that: then all processors take the breakpoint
// again and again, with interrupts off, and the machine hangs.
func holdFreezer() error {
	dir := "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir = filepath.Join(dir, "quoin-vm-frozen")
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("FROZEN"), 0)
	}
	if err != nil {
		return fmt.Errorf("keep the freezer in use: %w", err)
	}
	return nil
}
