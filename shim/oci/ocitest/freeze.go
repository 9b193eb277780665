// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// frozenWithin bounds the wait for the freezer, which has to interrupt a process.
const frozenWithin = 20 * time.Second

// Freeze puts a process where SIGKILL does not reach it until thaw, as in a system
// call that does not return: into a frozen cgroup of version 1. (Version 2 lets what
// it has frozen die.) When the test ends, the process has to be about to as well. It
// needs root.
func Freeze(t testing.TB, pid int) (thaw func()) {
	t.Helper()
	dir, err := os.MkdirTemp(freezer(t), "quoin-frozen-")
	if err != nil {
		t.Fatalf("freeze process %d: %v", pid, err)
	}
	state := filepath.Join(dir, "freezer.state")
	write := func(file, value string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			t.Fatalf("freeze process %d: %v", pid, err)
		}
	}
	thaw = func() { write(state, "THAWED") }
	t.Cleanup(func() {
		thaw()
		await(t, "the frozen cgroup is empty", func() bool { return os.Remove(dir) == nil })
	})
	write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
	write(state, "FROZEN")
	await(t, "the process is frozen", func() bool {
		now, err := os.ReadFile(state)
		return err == nil && strings.TrimSpace(string(now)) == "FROZEN"
	})
	return thaw
}

// freezer mounts the freezer's hierarchy of version 1 for the test: also a machine
// whose other controllers are all in version 2 has it.
func freezer(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("freezer", dir, "cgroup", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "freezer")
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOENT):
		t.Fatalf("mount the freezer of cgroup v1: %v: the kernel was built without it (CONFIG_CGROUP_FREEZER), or started with cgroup_no_v1=", err)
	case err != nil:
		t.Fatalf("mount the freezer of cgroup v1: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the freezer at %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH) // or the directory could not be removed
		}
	})
	return dir
}

// await looks again and again, for what the kernel does not tell of.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(frozenWithin); !done(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("still not after %s: %s", frozenWithin, what)
		}
	}
}
