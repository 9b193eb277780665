// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

const (
	// endPatience is how long the machine may take to be off after its last frame.
	endPatience = time.Minute

	// processor has no more than what Debian's programs make use of. With all that
	// qemu can emulate, page tables have five levels, and kernel and programs prefer
	// instructions that are fast in silicon and slow here.
	processor = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+lahf_lm"

	// kernelArguments are those of every bed. Without tsc=reliable each look at the
	// clock is a request to the emulated HPET, under qemu's one lock; on a busy host
	// the kernel would find that the timer's interrupts come late, and give up; zeroed
	// pages and AppArmor cost time and are no matter of these tests.
	kernelArguments = "root=/dev/vda rw console=ttyS0 quiet panic=-1 net.ifnames=0 hugepages=16 " +
		"mitigations=off no_timer_check tsc=reliable clocksource=tsc init_on_alloc=0 apparmor=0 " +
		"systemd.show_status=0 systemd.hostname=quoin-vm " +
		// A machine that hangs is sent an NMI: the kernel then prints its tasks.
		"unknown_nmi_panic panic_print=0x41"
)

// machine is a running virtual machine.
type machine struct {
	cmd     *exec.Cmd
	console string
	monitor string       // qemu's socket of control
	stderr  bytes.Buffer // complete when it has ended
	frames  *net.UnixListener
	exited  chan error // receives how it ended, once
}

// start boots a machine into a bed. The root's image is not written to: the
// machine's writes go to a scratch file in dir, which qemu makes.
func (s settings) start(ctx context.Context, dir, bed string, root image, cargo string) (*machine, error) {
	m := &machine{console: filepath.Join(dir, "console"), monitor: filepath.Join(dir, "monitor"), exited: make(chan error, 1)}
	socket := filepath.Join(dir, "frames")
	var err error
	if m.frames, err = net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"}); err != nil {
		return nil, fmt.Errorf("listen for the machine's frames: %w", err)
	}
	m.cmd = exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi,tb-size=1024",
		"-cpu", processor,
		"-m", strconv.Itoa(s.memory), "-smp", strconv.Itoa(s.processors),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-net", "none",
		"-serial", "file:"+m.console,
		"-qmp", "unix:"+m.monitor+",server=on,wait=off",
		"-kernel", root.kernel(), "-initrd", root.initrd(), "-append", kernelLine(bed),
		"-drive", "file="+root.root()+",if=virtio,format=raw,snapshot=on,cache=unsafe",
		"-drive", "file="+cargo+",if=virtio,format=raw,readonly=on",
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=frames,path="+socket,
		"-device", "virtserialport,chardev=frames,nr=1,name=quoin.frames",
	)
	m.cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	m.cmd.Stdout, m.cmd.Stderr = &m.stderr, &m.stderr
	m.cmd.WaitDelay = time.Second
	if err := m.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the machine: %w", err), m.frames.Close())
	}
	go func() {
		err := m.cmd.Wait()
		m.exited <- err
		_ = m.frames.Close() // so that nobody waits for a machine that never connected
	}()
	return m, nil
}

func kernelLine(bed string) string {
	return strings.TrimSpace(wire.BedArgument + bed + " " + kernelArguments + " " + beds[bed].kernel)
}

// end waits until the machine is off and ends it if that takes too long.
func (m *machine) end() error {
	defer m.frames.Close()
	select {
	case err := <-m.exited:
		if err != nil {
			return fmt.Errorf("the machine: %w", err)
		}
		return nil
	case <-time.After(endPatience):
		_ = m.cmd.Process.Kill()
		<-m.exited
		return fmt.Errorf("the machine was not off %v after its last word", endPatience)
	}
}

// kill ends the machine at once.
func (m *machine) kill() {
	_ = m.cmd.Process.Kill() // it may be gone already
}

// consoleTail returns the last lines of the machine's console.
func (m *machine) consoleTail(lines int) string {
	text, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(text), "\r", "")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
