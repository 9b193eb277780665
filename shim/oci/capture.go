// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// maxStderr is how much of a runtime's stderr is kept, in bytes.
const maxStderr = 8 << 10

// capture is where a call's streams go: either to a container's process, or to
// memory files of a fixed size. A write beyond the size fails in the writer and
// costs us nothing.
type capture struct {
	stdio *Stdio
	out   *os.File // nil when stdout is not wanted
	err   *os.File
	limit int64
}

// newCapture makes the memory files for a call. With stdio, none are made, and
// the runtime's own stderr goes where the container's does: that is how its init
// gets it.
func newCapture(stdio *Stdio, limit int64) (*capture, error) {
	c := &capture{stdio: stdio, limit: limit}
	if stdio != nil {
		return c, nil
	}
	var err error
	if c.err, err = memFile("oci-stderr", maxStderr); err != nil {
		return nil, err
	}
	if limit > 0 {
		if c.out, err = memFile("oci-stdout", limit); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// attach sets the command's streams. A typed nil must not reach os/exec.
func (c *capture) attach(cmd *exec.Cmd) {
	if c.stdio != nil {
		if c.stdio.Stdin != nil {
			cmd.Stdin = c.stdio.Stdin
		}
		if c.stdio.Stdout != nil {
			cmd.Stdout = c.stdio.Stdout
		}
		if c.stdio.Stderr != nil {
			cmd.Stderr = c.stdio.Stderr
		}
		return
	}
	cmd.Stderr = c.err
	cmd.Stdout = c.err // what a runtime prints on stdout unasked is a complaint, too
	if c.out != nil {
		cmd.Stdout = c.out
	}
}

// stdout is all that the runtime wrote; more than the limit is an error.
func (c *capture) stdout() ([]byte, error) {
	if c.out == nil {
		return nil, nil
	}
	data, err := readMem(c.out, c.limit)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) == c.limit {
		return nil, fmt.Errorf("the runtime printed more than %d bytes", c.limit)
	}
	return data, nil
}

// stderr is what the runtime complained about, or empty.
func (c *capture) stderr() string {
	if c.err == nil {
		return ""
	}
	data, err := readMem(c.err, maxStderr)
	if err != nil {
		return ""
	}
	return string(data)
}

func (c *capture) close() {
	for _, f := range []*os.File{c.out, c.err} {
		if f != nil {
			_ = f.Close() // memory: there is nothing to lose
		}
	}
}

// memFile is a memory file that cannot grow beyond size bytes. Its pages exist
// only once they are written to.
func memFile(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make a memory file for output: %w", os.NewSyscallError("memfd_create", err))
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make a memory file for output: %w", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("seal a memory file: %w", err)
	}
	return f, nil
}

// readMem is what was written to a memory file. The file is as long as its limit;
// the rest is zero, which no text contains. A runtime may have opened the
// file anew, so the shared offset would not tell. It reads by small steps, so
// that a large limit costs nothing.
func readMem(f *os.File, limit int64) ([]byte, error) {
	var data []byte
	step := make([]byte, 4096)
	for int64(len(data)) < limit {
		n, err := f.ReadAt(step, int64(len(data)))
		if i := bytes.IndexByte(step[:n], 0); i >= 0 {
			return append(data, step[:i]...), nil
		}
		data = append(data, step[:n]...)
		if errors.Is(err, io.EOF) || n == 0 {
			return data, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read captured output: %w", err)
		}
	}
	return data, nil
}
