// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// eventually looks again and again, for what nobody tells of.
func eventually(t testing.TB, what string, done func() bool) bool {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Errorf("still not: %s", what)
			return false
		}
	}
	return true
}

// childProcesses are this process's children, zombies included.
func childProcesses() []string {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []string
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil { // the thread may have ended
			pids = append(pids, strings.Fields(string(data))...)
		}
	}
	return pids
}

// inventory is what a container could leave behind in this process.
type inventory struct {
	goroutines int
	fds        []string
}

func takeInventory(t testing.TB) inventory {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	inv := inventory{goroutines: runtime.NumGoroutine()}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(target, "/proc/") {
			continue // the directory that is being read
		}
		inv.fds = append(inv.fds, target)
	}
	slices.Sort(inv.fds)
	return inv
}

// nothingMore checks that all that there is now was there before.
func (inv inventory) nothingMore(t testing.TB) {
	t.Helper()
	var now inventory
	if !eventually(t, "goroutines and descriptors are as before", func() bool {
		now = takeInventory(t)
		return now.goroutines <= inv.goroutines && slices.Equal(now.fds, inv.fds)
	}) {
		stacks := make([]byte, 1<<20)
		t.Fatalf("before: %v\nnow: %v\n%s", inv, now, stacks[:runtime.Stack(stacks, true)])
	}
}

// files are the names in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
