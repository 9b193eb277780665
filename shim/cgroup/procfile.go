// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// membership is one line of /proc/<pid>/cgroup.
type membership struct {
	// controllers is empty for cgroup v2.
	controllers []string
	path        string
	// deleted is set when the directory was removed under the process.
	deleted bool
}

// readMemberships reads those of a process: a pid, or "self". It fails with
// ErrNotFound when there is no such process.
func readMemberships(root, pid string) ([]membership, error) {
	data, err := os.ReadFile(filepath.Join(root+"/proc", pid, "cgroup"))
	// ESRCH is what the kernel says when the process ends in between.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("no such process: %w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return parseMemberships(string(data))
}

// parseMemberships reads the format of cgroups(7), "/proc/[pid]/cgroup":
// hierarchy-ID:controller-list:cgroup-path.
func parseMemberships(data string) ([]membership, error) {
	var out []membership
	for line := range strings.Lines(data) {
		line = strings.TrimSuffix(line, "\n")
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			return nil, fmt.Errorf("unexpected line %q", line)
		}
		m := membership{path: parts[2]}
		if parts[1] != "" {
			m.controllers = strings.Split(parts[1], ",")
		}
		m.path, m.deleted = strings.CutSuffix(m.path, " (deleted)")
		out = append(out, m)
	}
	return out, nil
}
