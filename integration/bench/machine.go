// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/integration/harness"
)

// machine is what the figures depend on.
type machine struct {
	Kernel   string   `json:"kernel"`
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Memory   string   `json:"memory"`
	Cgroups  string   `json:"cgroups"`
	Load     string   `json:"load_average"`        // when the run began: others disturb
	LoadEnd  string   `json:"load_average_at_end"` // the run's own load included
	Versions []string `json:"versions"`
}

func describeMachine(ctx context.Context) machine {
	m := machine{
		Cores:   runtime.NumCPU(),
		Kernel:  firstLine("/proc/sys/kernel/osrelease"),
		Load:    loadAverage(),
		CPU:     "unknown",
		Cgroups: cgroupMode(),
	}
	if fields, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(fields)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if fields, err := readFields("/proc/meminfo"); err == nil {
		m.Memory = fmt.Sprintf("%.1f GiB", fields["MemTotal"]/(1<<20))
	}
	for _, v := range variants() {
		if v.name != "drop-in" { // it has nothing that the others have not
			m.Versions = append(m.Versions, version(ctx, v.daemon, "--version"), version(ctx, v.shim, "-v"))
		}
	}
	for _, r := range ociRuntimes() {
		m.Versions = append(m.Versions, version(ctx, r.binary, "--version"))
	}
	m.Versions = append(m.Versions, version(ctx, harness.BusyboxStatic.Path()))
	return m
}

// cgroupMode says which hierarchies there are.
func cgroupMode() string {
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return "none: " + err.Error()
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return "v2"
	}
	if err := unix.Statfs("/sys/fs/cgroup/unified", &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return "v1 (hybrid: cgroup2 on unified; hidden for crun)"
	}
	return "v1"
}

// version is what a program says it is, on one line.
func version(ctx context.Context, path string, args ...string) string {
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return fmt.Sprintf("%s: %v", path, err)
	}
	var said []string
	for line := range strings.Lines(string(out)) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			said = append(said, line)
		}
	}
	return fmt.Sprintf("%s: %s", path, strings.Join(said[:min(len(said), 3)], " · "))
}

// loadAverage is that of the last 1, 5 and 15 minutes.
func loadAverage() string {
	fields := strings.Fields(firstLine("/proc/loadavg"))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

func firstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}

func (m machine) print(w io.Writer) {
	fmt.Fprintf(w, "machine: Linux %s, %d cores (%s), %s, cgroups %s, load %s before and %s after\n",
		m.Kernel, m.Cores, m.CPU, m.Memory, m.Cgroups, m.Load, m.LoadEnd)
	for _, v := range m.Versions {
		fmt.Fprintf(w, "  %s\n", v)
	}
}
