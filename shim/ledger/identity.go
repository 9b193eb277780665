// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Identity names a process so that no later one of the same pid is taken for it.
type Identity struct {
	// Pid in this process's PID namespace.
	Pid int
	// Start is when it began, in clock ticks after the boot (proc(5), field 22 of
	// /proc/<pid>/stat).
	Start uint64
	// Boot is the kernel's random id of the boot.
	Boot string
}

func (id Identity) check() error {
	switch {
	case id.Pid <= 0:
		return fmt.Errorf("pid %d", id.Pid)
	case id.Start == 0:
		return errors.New("no start time")
	case id.Boot == "":
		return errors.New("no boot id")
	}
	return nil
}

// Identify returns the identity of a process that lives or is a zombie. None is
// errdefs.ErrNotFound.
func Identify(pid int) (Identity, error) {
	stat, err := readStat(pid)
	if err != nil {
		return Identity{}, err
	}
	boot, err := bootID()
	if err != nil {
		return Identity{}, err
	}
	return Identity{Pid: pid, Start: stat.start, Boot: boot}, nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// procStat is what is used of /proc/<pid>/stat.
type procStat struct {
	state byte
	flags uint64
	start uint64
	exit  int // as wait(2) encodes it; of a zombie
}

// exiting says that the process is on its way out, or is a zombie: what happens to
// it now does not change how it ends.
func (s procStat) exiting() bool {
	const pfExiting = 0x4 // PF_EXITING, include/linux/sched.h
	return s.state == 'Z' || s.state == 'X' || s.flags&pfExiting != 0
}

func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return procStat{}, fmt.Errorf("process %d: %w", pid, errdefs.ErrNotFound)
	}
	if err != nil {
		return procStat{}, fmt.Errorf("read the state of process %d: %w", pid, err)
	}
	// The name is in parentheses and may hold any byte.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const state, flags, start, exit = 0, 6, 19, 49 // proc(5), from field 3 on
	if len(fields) <= exit {
		return procStat{}, fmt.Errorf("the state of process %d has %d fields: %w", pid, len(fields), errdefs.ErrInternal)
	}
	s := procStat{state: fields[state][0]}
	s.flags, err = strconv.ParseUint(string(fields[flags]), 10, 64)
	if err == nil {
		s.start, err = strconv.ParseUint(string(fields[start]), 10, 64)
	}
	if err == nil {
		s.exit, err = strconv.Atoi(string(fields[exit]))
	}
	if err != nil {
		return procStat{}, fmt.Errorf("read the state of process %d: %w", pid, err)
	}
	return s, nil
}
