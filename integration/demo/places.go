// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/config"
)

// places are where the demonstration keeps its files.
type places struct {
	bin, dir string
}

func placesIn(repository string) places {
	bin := os.Getenv("QUOIN_BIN")
	if bin == "" {
		bin = filepath.Join(repository, "bin")
	}
	return places{bin: bin, dir: filepath.Join(repository, "_demo")}
}

func (p places) root() string   { return filepath.Join(p.dir, "root") }
func (p places) state() string  { return filepath.Join(p.dir, "state") }
func (p places) socket() string { return filepath.Join(p.state(), "quoind.sock") }
func (p places) image() string  { return filepath.Join(p.dir, "image.tar") }
func (p places) config() string { return filepath.Join(p.dir, "config.toml") }
func (p places) log() string    { return filepath.Join(p.dir, "quoind.log") }
func (p places) pid() string    { return filepath.Join(p.dir, "quoind.pid") }

// check finds out what would fail later with a worse message.
func (p places) check() error {
	d := config.DefaultDaemon()
	d.Root, d.State, d.Address = p.root(), p.state(), p.socket()
	if err := d.Validate(); err != nil {
		return fmt.Errorf("this directory does not do for the sockets: %w", err)
	}
	for _, name := range []string{"quoind", "quoinctl", config.ShimBinary} {
		if _, err := os.Stat(filepath.Join(p.bin, name)); err != nil {
			return fmt.Errorf("run `make` first: %w", err)
		}
	}
	return nil
}

// clear ends and removes what an earlier run, cut short, has left.
func (p places) clear(ctx context.Context) error {
	pid, err := p.earlier()
	if err != nil {
		return err
	}
	if pid != 0 {
		say("An earlier demonstration was cut short; ending its quoind, pid %d.", pid)
		if err := endProcess(ctx, pid); err != nil {
			return fmt.Errorf("ending the earlier quoind: %w", err)
		}
	}
	if left := processesWith(p.dir); len(left) > 0 {
		return fmt.Errorf("processes of an earlier demonstration are still there: %s; end them and try again", strings.Join(left, ", "))
	}
	if mounts := mountsBelow(p.dir); len(mounts) > 0 {
		return fmt.Errorf("mounts of an earlier demonstration are still there: %s; unmount them and try again", strings.Join(mounts, ", "))
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("removing what an earlier demonstration left: %w", err)
	}
	return nil
}

// earlier returns the pid of a quoind that an earlier run started and that
// still serves this directory, or 0.
func (p places) earlier() (int, error) {
	text, err := os.ReadFile(p.pid())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking for an earlier demonstration: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0, nil
	}
	// The pid may be another program's by now.
	if args := commandLine(pid); !strings.Contains(args, p.socket()) {
		return 0, nil
	}
	return pid, nil
}

// endProcess asks a process to end and waits until it has.
func endProcess(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signalling process %d: %w", pid, err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(limit)
	}
	for {
		wait := min(time.Until(deadline), 20*time.Second)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("waiting for process %d: %w", pid, err)
		case n == 0:
			return fmt.Errorf("process %d did not end within %v", pid, wait)
		}
		return nil
	}
}
