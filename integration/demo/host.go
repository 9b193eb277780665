// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/quoin-io/quoin/config"
)

// commandLine returns a process's arguments, or "" when it is gone.
func commandLine(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " "))
}

// executable returns the name of a process's program, or "".
func executable(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return filepath.Base(path)
}

// parentOf returns a process's parent, or 0.
func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, _ := strconv.Atoi(strings.TrimSpace(value))
			return parent
		}
	}
	return 0
}

// pids lists all processes, ascending.
func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all
}

// printTree shows a process and those below it.
func printTree(pid, depth int) {
	branch := ""
	if depth > 0 {
		branch = strings.Repeat("   ", depth-1) + "└─ "
	}
	fmt.Printf("  %-8d %s%s\n", pid, branch, shorten(commandLine(pid)))
	for _, child := range pids() {
		if parentOf(child) == pid {
			printTree(child, depth+1)
		}
	}
}

func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// processesWith lists the processes whose arguments or working directory are
// in dir, other than this one.
func processesWith(dir string) []string {
	var found []string
	for _, pid := range pids() {
		if pid == os.Getpid() {
			continue
		}
		args := commandLine(pid)
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if strings.Contains(args, dir+"/") || strings.HasPrefix(cwd, dir+"/") {
			found = append(found, fmt.Sprintf("%d (%s)", pid, shorten(args)))
		}
	}
	return found
}

// mountsBelow lists the mount points in dir.
func mountsBelow(dir string) []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var found []string
	for _, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			found = append(found, fields[4])
		}
	}
	return found
}

// cgroupDirs returns the directories of the cgroups that /proc/PID/cgroup
// names, where their hierarchies are mounted in the usual places; the roots,
// which everything is in, are left out.
func cgroupDirs(text string) []string {
	var dirs []string
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 || fields[2] == "/" {
			continue
		}
		mounts := []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}
		if fields[1] != "" {
			mounts = []string{"/sys/fs/cgroup/" + strings.TrimPrefix(fields[1], "name=")}
		}
		for _, mount := range mounts {
			if dir := filepath.Join(mount, fields[2]); exists(filepath.Join(dir, "cgroup.procs")) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// nothingLeft checks, and says, that no part of the container remains.
func nothingLeft(p places, s *story) error {
	say("And what is left of it, with quoind stopped:")
	// What is hidden is a note of the shims about an OCI runtime, kept for the next.
	bundles, _ := filepath.Glob(filepath.Join(p.state(), "io.containerd.runtime.v2.task", "*", "[^.]*"))
	sockets, _ := filepath.Glob(filepath.Join(p.state(), "s", "*"))
	var cgroups, processes []string
	for _, dir := range s.cgroups {
		if exists(dir) {
			cgroups = append(cgroups, dir)
		}
	}
	for _, pid := range []int{s.shim, s.init} {
		if name := executable(pid); name == config.ShimBinary || name == "demo" {
			processes = append(processes, fmt.Sprintf("%d (%s)", pid, name))
		}
	}
	processes = append(processes, processesWith(p.dir)...)
	var left []string
	for _, kind := range []struct {
		name  string
		found []string
	}{
		{"processes", processes},
		{"mounts", mountsBelow(p.dir)},
		{"cgroups", cgroups},
		{"bundles", bundles},
		{"sockets of shims", sockets},
	} {
		if len(kind.found) == 0 {
			fmt.Printf("  %-18s none\n", kind.name)
			continue
		}
		fmt.Printf("  %-18s %s\n", kind.name, strings.Join(kind.found, ", "))
		left = append(left, kind.name)
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return nil
}
