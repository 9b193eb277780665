// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
)

const cgroupRoot = "/sys/fs/cgroup"

// leftoverPatience is how long what is being removed may take to be gone. A shim
// that lost its daemon before it had a container ends after 10 seconds.
const leftoverPatience = 25 * time.Second

// Leftovers fails the test for every container, task, bundle, mount, shim
// socket, cgroup and process that is still there. Call it when the test has
// removed all it made and no other test uses the daemon.
func Leftovers(t testing.TB, d *Daemon) {
	t.Helper()
	for _, p := range append(d.leftovers(), worldLeftovers()...) {
		t.Errorf("left behind: %s", p)
	}
}

// leftovers lists what the daemon still has of containers.
func (d *Daemon) leftovers() []string {
	if !d.running() {
		return nil
	}
	return settle(func() []string {
		var found []string
		found = append(found, d.records()...)
		found = append(found, entries("bundle", filepath.Join(d.State, "io.containerd.runtime.v2.task", "*", "*"))...)
		found = append(found, entries("bundle work", filepath.Join(d.Root, "io.containerd.runtime.v2.task", "*", "*"))...)
		for point := range mountPoints(d.PID()) {
			own := strings.HasPrefix(point, d.State+"/") || strings.HasPrefix(point, d.Root+"/")
			if own && !d.baseline[point] {
				found = append(found, "mount "+point)
			}
		}
		return found
	})
}

func (d *Daemon) records() []string {
	ctx, cancel := context.WithTimeout(context.Background(), leftoverPatience)
	defer cancel()
	containers, err := d.client.Containers(ctx)
	if err != nil {
		return []string{"cannot list containers: " + err.Error()}
	}
	var found []string
	for _, c := range containers {
		found = append(found, "container "+c.ID())
	}
	return found
}

// worldLeftovers lists what no daemon should leave in the package's
// namespaces and in the cgroup hierarchies.
func worldLeftovers() []string {
	return settle(func() []string {
		found := entries("shim socket", "/run/containerd/s/*")
		for _, d := range runningDaemons() {
			found = append(found, entries("shim socket", filepath.Join(d.State, "s", "*"))...)
		}
		found = append(found, entries("network namespace", "/run/netns/*")...)
		found = append(found, cgroupLeftovers(Token())...)
		for _, p := range strangers() {
			found = append(found, "process "+p.String())
		}
		return found
	})
}

// strangers are the processes that are not the tests, their daemons or other
// servers of theirs.
func strangers() []Process {
	known := map[int]bool{1: true, os.Getpid(): true}
	for _, d := range runningDaemons() {
		known[d.PID()] = true
	}
	for _, pid := range expected() {
		known[pid] = true
	}
	var found []Process
	for _, p := range Processes() {
		if !known[p.PID] {
			found = append(found, p)
		}
	}
	return found
}

// settle asks until nothing is found or patience ends.
func settle(find func() []string) []string {
	var found []string
	poll(leftoverPatience, func() string {
		found = find()
		return strings.Join(found, ", ")
	})
	return found
}

// entries lists what matches, but for hidden files: containerd takes no hidden
// name for a bundle, and the shim keeps what it learnt of a runtime in one.
func entries(what, pattern string) []string {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, p := range paths {
		if !strings.HasPrefix(filepath.Base(p), ".") {
			found = append(found, what+" "+p)
		}
	}
	return found
}

// mountPoints are the mounts that a process sees.
func mountPoints(pid int) map[string]bool {
	points := map[string]bool{}
	file, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return points
	}
	defer file.Close()
	mounts, err := mountinfo.GetMountsFromReader(file, nil)
	if err != nil {
		return points
	}
	for _, m := range mounts {
		points[m.Mountpoint] = true
	}
	return points
}

// cgroupLeftovers lists the cgroups below the ones that are named by token.
// Those themselves stay until the end: runtimes make the parents of a
// container's cgroup and remove only the container's own.
func cgroupLeftovers(token string) []string {
	var found []string
	for _, dir := range tokenCgroups(token) {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && path != dir {
				found = append(found, "cgroup "+path)
			}
			return nil // what vanishes meanwhile is not left
		})
	}
	return found
}

// tokenCgroups are the top-level cgroups, of every hierarchy, named by token.
func tokenCgroups(token string) []string {
	var dirs []string
	for _, pattern := range []string{
		filepath.Join(cgroupRoot, "*", token+"*"), // v1 and hybrid
		filepath.Join(cgroupRoot, token+"*"),      // cgroup v2
	} {
		if found, err := filepath.Glob(pattern); err == nil {
			dirs = append(dirs, found...)
		}
	}
	return dirs
}

// RemoveCgroups removes the cgroups, of every hierarchy, whose names begin with
// token, deepest first. Runtimes remove a container's and leave its parents.
func RemoveCgroups(token string) error {
	var errs []error
	for _, dir := range tokenCgroups(token) {
		var below []string
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				below = append(below, path)
			}
			return nil
		})
		for i := len(below) - 1; i >= 0; i-- {
			path := below[i]
			last := poll(leftoverPatience, func() string {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err.Error()
				}
				return ""
			})
			if last != "" {
				errs = append(errs, errors.New(last))
			}
		}
	}
	return errors.Join(errs...)
}
