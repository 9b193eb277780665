// SPDX-License-Identifier: Apache-2.0

// Command guest is what the virtual machine runs: as a unit of systemd, or for
// the shell that is process 1 where there is no systemd. It does the runs of the
// plan, reports them through the virtio port, and powers the machine off; when it
// fails, whoever started it does. It decides nothing about the tests.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

func main() {
	if err := work(); err != nil {
		fmt.Fprintf(os.Stderr, "guest: %v\n", err)
		os.Exit(1)
	}
}

func work() error {
	ports, err := filepath.Glob(wire.Port)
	if err != nil || len(ports) != 1 {
		return fmt.Errorf("find the port to the host, %s: %q, %v", wire.Port, ports, err)
	}
	port, err := os.OpenFile(ports[0], os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open the port to the host: %w", err)
	}
	defer port.Close()
	r := &reporter{port: port}
	kernel, err := os.ReadFile("/proc/version")
	if err != nil {
		return fmt.Errorf("read the kernel's version: %w", err)
	}
	r.send(wire.Frame{Kind: wire.Up, Text: string(kernel)})
	go r.live()
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the kernel's command line: %w", err)
	}
	bed, err := wire.Bed(string(line))
	if err != nil {
		return err
	}
	plan, err := wire.ReadPlan(filepath.Join(wire.CargoDir, wire.PlanName(bed)))
	if err != nil {
		return err
	}
	if err := holdFreezer(); err != nil {
		return err
	}
	for i, run := range plan.Runs {
		r.send(wire.Frame{Kind: wire.Begin, Index: i})
		code, why := execute(plan.Bed, run, stream{r, i})
		r.send(wire.Frame{Kind: wire.End, Index: i, Code: code, Text: why})
	}
	r.send(wire.Frame{Kind: wire.Done})
	if r.err != nil {
		return fmt.Errorf("report to the host: %w", r.err)
	}
	// At once: nothing of the machine is kept, and an orderly end waits for shims,
	// which do not end on SIGTERM.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		return fmt.Errorf("power the machine off: %w", err)
	}
	return nil
}
