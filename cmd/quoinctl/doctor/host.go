// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// host is the machine that is looked at: the real one, or a directory and a few
// functions in tests.
type host struct {
	// root is prepended to every path; "" is the real host. Messages never
	// contain it.
	root string
	// address is the daemon's socket; "" means what the configuration says.
	address string
	// self is quoinctl's own executable, envPath its PATH.
	self, envPath string
	// euid is who we are.
	euid int
	// askUnit asks systemd which unit we run in; nil does so over D-Bus.
	askUnit func(context.Context) (string, error)
	kernel  kernel

	deadlines deadlines
}

// kernel is what only system calls tell.
type kernel struct {
	// statfs measures the file system of a directory.
	statfs func(dir string) (usage, error)
	// entryTypes tells whether the file system of a directory says what type
	// its entries have.
	entryTypes func(dir string) (typed, known bool, err error)
	// idmap tries an idmapped mount of a directory, without attaching it.
	idmap func(dir string) error
	// pidfd and subreaper try those.
	pidfd, subreaper func() error
}

// usage is what statfs tells.
type usage struct {
	size, free, inodes, inodesFree uint64
}

func realHost(address string) (*host, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find quoinctl's own executable: %w", err)
	}
	return &host{
		address: address,
		self:    self,
		envPath: os.Getenv("PATH"),
		euid:    os.Geteuid(),
		kernel:  realKernel(),

		deadlines: realDeadlines(),
	}, nil
}

// at returns where a path of the host is found.
func (h *host) at(path string) string { return h.root + path }

// maxFile bounds what is read of any file.
const maxFile = 4 << 20

// read returns a file of the host.
func (h *host) read(path string) (string, error) {
	f, err := os.Open(h.at(path))
	if err != nil {
		return "", pathless(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(data), pathless(err)
}

// line returns the first line of a file, "" when it cannot be read.
func (h *host) line(path string) string {
	text, _ := h.read(path)
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}

// exists also holds for what may not be looked at.
func (h *host) exists(path string) bool {
	_, err := os.Lstat(h.at(path))
	return !errors.Is(err, os.ErrNotExist)
}

func (h *host) isDir(path string) bool {
	st, err := os.Lstat(h.at(path))
	return err == nil && st.IsDir()
}

// existing returns the nearest directory of path, or above it, that exists,
// with its links followed.
func (h *host) existing(path string) string {
	for ; path != "/"; path = filepath.Dir(path) {
		if found, err := filepath.EvalSymlinks(h.at(path)); err == nil {
			return "/" + strings.TrimPrefix(strings.TrimPrefix(found, h.root), "/")
		}
	}
	return path
}

// rootless takes the root out of an error that names files below it.
func (h *host) rootless(err error) error {
	if err == nil || h.root == "" {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), h.root, ""))
}

// pathless drops the path from an error: the caller names it, without root.
func pathless(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// output runs a program of the host and returns what it prints. Its process
// group ends with ctx.
func (h *host) output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, h.at(program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s did not end in time", program)
		}
		return "", fmt.Errorf("%s: %w", program, pathless(err))
	}
	return out.String(), nil
}
