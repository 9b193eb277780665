// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// meter is a cgroup that accounts the CPU time of a daemon and of all that it
// starts. Containers' cgroups are below it too, as it has the name of the
// containerd namespace, so what a runtime does inside them is counted. Unlike a
// duration, CPU time says the same on a busy machine.
type meter struct {
	file  string        // of the time used so far
	field string        // the line's first word, if the file has lines
	unit  time.Duration // of the number
}

// startMeter puts the process in the cgroup named parent.
func startMeter(parent string, pid int) (*meter, error) {
	m, root := &meter{file: "cpuacct.usage", unit: time.Nanosecond}, "/sys/fs/cgroup/cpuacct"
	if _, err := os.Stat(filepath.Join(root, m.file)); err != nil {
		m, root = &meter{file: "cpu.stat", field: "usage_usec", unit: time.Microsecond}, "/sys/fs/cgroup"
	}
	m.file = filepath.Join(root, parent, m.file)
	// A leaf: on cgroup v2 a parent of containers holds no process.
	leaf := filepath.Join(root, parent, "daemon")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup to account CPU time: %w", err)
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600); err != nil {
		return nil, fmt.Errorf("account the daemon's CPU time: %w", err)
	}
	return m, nil
}

// used is the CPU time used so far.
func (m *meter) used() (time.Duration, error) {
	content, err := os.ReadFile(m.file)
	if err != nil {
		return 0, fmt.Errorf("read the CPU time used: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		text := strings.TrimSpace(line)
		if m.field != "" {
			var ok bool
			if text, ok = strings.CutPrefix(text, m.field+" "); !ok {
				continue
			}
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the CPU time used: %s: %w", m.file, err)
		}
		return time.Duration(number) * m.unit, nil
	}
	return 0, fmt.Errorf("read the CPU time used: %s has no %s", m.file, m.field)
}
