// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strings"
)

// membership is one line of /proc/<pid>/cgroup.
type membership struct {
	// controllers is empty for cgroup v2.
	controllers []string
	path        string
	// deleted is set when the directory was removed under the process.
	deleted bool
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
