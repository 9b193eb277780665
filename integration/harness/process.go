// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Process is one process of the package's PID namespace.
type Process struct {
	PID, Parent int
	// State is the letter of /proc/<pid>/stat: R, S, D, T, Z, ….
	State string
	// Name is the kernel's name of it, at most 15 bytes.
	Name string
	// Args is its command line; empty for a zombie.
	Args []string
}

func (p Process) String() string {
	name := strings.Join(p.Args, " ")
	if name == "" {
		name = "[" + p.Name + "]"
	}
	return fmt.Sprintf("%d (parent %d, %s) %.120s", p.PID, p.Parent, p.State, name)
}

// Processes lists the package's PID namespace.
func Processes() []Process {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var all []Process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if p, ok := FindProcess(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// FindProcess reads one process; false when there is none.
func FindProcess(pid int) (Process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, false
	}
	// The name is in parentheses and may hold any byte, parentheses too.
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || end < open {
		return Process{}, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 2 {
		return Process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return Process{}, false
	}
	p := Process{PID: pid, Parent: parent, State: fields[0], Name: string(stat[open+1 : end])}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(line) > 0 {
		p.Args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	}
	return p, true
}

// Gone says whether no process has the pid any more, not even as a zombie.
func Gone(pid int) bool {
	_, ok := FindProcess(pid)
	return !ok
}

// Zombies lists what has exited and was not reaped.
func Zombies() []Process {
	var zombies []Process
	for _, p := range Processes() {
		if p.State == "Z" {
			zombies = append(zombies, p)
		}
	}
	return zombies
}

// Children lists the processes whose parent is pid.
func Children(pid int) []Process {
	var children []Process
	for _, p := range Processes() {
		if p.Parent == pid {
			children = append(children, p)
		}
	}
	return children
}

// Describe puts processes on lines of their own.
func Describe(processes []Process) string {
	lines := make([]string, len(processes))
	for i, p := range processes {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Shims lists the shim processes that serve a pod or container id.
func Shims(id string) []Process {
	var shims []Process
	for _, p := range Processes() {
		for i, arg := range p.Args {
			if arg == "-id" && i+1 < len(p.Args) && p.Args[i+1] == id {
				shims = append(shims, p)
			}
		}
	}
	return shims
}

// Shims are those that the daemon started for a pod or container id; another one's
// may have the same.
func (d *Daemon) Shims(id string) []Process {
	return slices.DeleteFunc(Shims(id), func(p Process) bool { return !slices.Contains(p.Args, d.Namespace) })
}

// Shim is the only one of Shims.
func (d *Daemon) Shim(t testing.TB, id string) Process {
	t.Helper()
	shims := d.Shims(id)
	if len(shims) != 1 {
		t.Fatalf("shims of %s:\n%s", id, Describe(shims))
	}
	return shims[0]
}
