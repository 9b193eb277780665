// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Pids lists the processes of the cgroup and of those below it, ascending. A
// zombie is not listed, nor is a process outside our PID namespace. It fails
// with ErrNotFound when the cgroup is gone.
func (c *Cgroup) Pids() ([]int, error) {
	if c == nil {
		return nil, c.notFound("list the processes of")
	}
	var out []int
	err := walk(c.Dir(), func(dir string) error {
		pids, err := readPids(dir)
		out = append(out, pids...)
		return err
	})
	if err != nil {
		if gone(err) {
			return nil, c.notFound("list the processes of")
		}
		return nil, fmt.Errorf("list the processes of %s: %w", c, err)
	}
	slices.Sort(out)
	return slices.Compact(out), nil // a process may move while we walk
}

// Populated reports whether a process is left in the cgroup or below it. It is
// false for a cgroup that is gone.
func (c *Cgroup) Populated() bool {
	if c == nil {
		return false
	}
	if c.mode == Unified {
		f := openFiles(c.unified, make([]byte, 128))
		defer f.close()
		populated := false
		if f.pairs("cgroup.events", func(key []byte, v uint64) {
			populated = populated || string(key) == "populated" && v == 1
		}) {
			return populated
		}
		// The root has no cgroup.events.
	}
	err := walk(c.Dir(), func(dir string) error {
		pids, err := readPids(dir)
		if len(pids) > 0 {
			return errPopulated
		}
		return err
	})
	return err == errPopulated
}

var errPopulated = errors.New("populated")

// walk calls visit for dir and every directory below it, parents first. An
// error about a directory that vanished counts for dir only.
func walk(dir string, visit func(dir string) error) error {
	if err := visit(dir); err != nil {
		return err
	}
	stack := []string{dir}
	for len(stack) > 0 {
		parent := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		entries, err := os.ReadDir(parent)
		if err != nil && !gone(err) {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			child := filepath.Join(parent, e.Name())
			if err := visit(child); err != nil && !gone(err) {
				return err
			}
			stack = append(stack, child)
		}
	}
	return nil
}

// readPids reads cgroup.procs of one directory. A threaded cgroup refuses with
// EOPNOTSUPP: its processes are listed by the domain above it.
func readPids(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil, nil
		}
		return nil, err
	}
	var out []int
	for line := range strings.Lines(string(data)) {
		// 0 stands for a process of another PID namespace.
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out, nil
}
