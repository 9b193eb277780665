// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxFile bounds the reading of one file, in bytes.
const maxFile = 1 << 20

// gone recognizes ENOENT and ENODEV, the errors under a cgroup directory when the
// cgroup was removed, or the kernel has no such file.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func (c *Cgroup) notFound(doing string) error {
	return fmt.Errorf("%s %s: the cgroup does not exist: %w", doing, c, errdefs.ErrNotFound)
}

// files reads the files of one cgroup directory with as few system calls and
// as little garbage as possible: Stats runs once a second for each container.
type files struct {
	fd  int
	buf []byte
}

// openFiles opens a directory; every read of a directory that could not be
// opened yields nothing.
func openFiles(dir string, buf []byte) *files {
	fd, err := retryInt(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		fd = -1
	}
	return &files{fd: fd, buf: buf}
}

func (f *files) close() {
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
	}
}

// read returns the contents of a file, nil when it is missing or unreadable.
// They are valid until the next read. One short read is the whole of a cgroup
// attribute (but not of cgroup.procs): the kernel formats it in one piece.
func (f *files) read(name string) []byte {
	if f.fd < 0 {
		return nil
	}
	fd, err := retryInt(func() (int, error) {
		return unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	for n := 0; ; {
		m, err := retryInt(func() (int, error) { return unix.Read(fd, f.buf[n:]) })
		if err != nil {
			return nil
		}
		n += m
		if n < len(f.buf) || n >= maxFile {
			return f.buf[:n]
		}
		f.buf = append(f.buf, make([]byte, len(f.buf))...)
	}
}

// number reads a single value; unlimited is what "max" stands for.
func (f *files) number(name string, unlimited uint64) uint64 {
	v := string(bytes.TrimSpace(f.read(name)))
	if v == "max" {
		return unlimited
	}
	return parseNumber(v)
}

// pairs calls set for each "key value" line of a file, and reports whether
// there was any. Other lines are passed over: a newer kernel may add some.
func (f *files) pairs(name string, set func(key []byte, value uint64)) bool {
	found := false
	for line := range bytes.Lines(f.read(name)) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if !ok || len(key) == 0 {
			continue
		}
		found = true
		set(key, parseNumber(string(value)))
	}
	return found
}

// exists reports whether the directory has such a file.
func (f *files) exists(name string) bool {
	return f.fd >= 0 && unix.Faccessat(f.fd, name, unix.F_OK, 0) == nil
}

// parseNumber takes a negative value, which some counters show for a moment,
// as zero, like github.com/containerd/cgroups.
func parseNumber(s string) uint64 {
	if v, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64); err == nil {
		return v
	}
	return 0
}

// unlimited is "max" in cgroup v2 metrics; in v1 metrics it is 0.
const unlimited = math.MaxUint64

func retryInt(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
