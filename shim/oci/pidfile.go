// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxPidFile is more than any pid needs.
const maxPidFile = 64

// preparePidFile removes the pid file of an earlier call: it would be reported
// as this one's.
func preparePidFile(op, path string) error {
	if path == "" {
		return fmt.Errorf("OCI runtime %s: no pid file was named", op)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("OCI runtime %s: remove an old pid file: %w", op, err)
	}
	return nil
}

// readPid reads the pid that the runtime left, and checks that it can be waited
// for.
func (r *Runtime) readPid(op, path string) (int, error) {
	pid, err := ReadPidFile(path)
	if err == nil {
		err = checkChild(pid)
	}
	if err != nil {
		return 0, &Error{Op: op, Message: fmt.Sprintf("%s ended well, but %v", r.cfg.Binary, err), cause: err}
	}
	return pid, nil
}

// ReadPidFile reads what a runtime has written for --pid-file. It does not say whose
// process that is.
func ReadPidFile(path string) (int, error) {
	f, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("it wrote no pid file %s", path)
	}
	if err != nil {
		return 0, fmt.Errorf("its pid file cannot be read: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPidFile+1))
	if err != nil {
		return 0, fmt.Errorf("its pid file cannot be read: %w", err)
	}
	pid, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 32)
	if err != nil || pid <= 1 || len(data) > maxPidFile {
		return 0, fmt.Errorf("its pid file %s contains no pid: %.40q", path, data)
	}
	return int(pid), nil
}

// checkChild tells whether pid is a child of this process: an orphan of the
// runtime becomes one, if this process is a subreaper. In any other process
// there is nothing to check. A child that has exited is still there: nobody
// else can reap it.
func checkChild(pid int) error {
	var subreaper int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&subreaper)), 0, 0, 0)
	if err != nil || subreaper == 0 {
		return nil
	}
	parent, err := parentOf(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d of its pid file does not exist", pid)
	}
	if err != nil {
		return fmt.Errorf("process %d of its pid file cannot be examined: %w", pid, err)
	}
	if parent != os.Getpid() {
		return fmt.Errorf("process %d of its pid file is not a child of this shim (its parent is %d), so its exit could not be known", pid, parent)
	}
	return nil
}

// parentOf reads the parent's pid, the fourth field of stat. The second is a name
// in parentheses that may contain anything.
func parentOf(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/stat is malformed", pid)
	}
	return strconv.Atoi(string(fields[1]))
}
