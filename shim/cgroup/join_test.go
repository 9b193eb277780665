// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

func TestJoinLegacy(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	facts, err := Probe("")
	must(t, err)
	for _, name := range facts.Controllers {
		d, ok := c.controller(name)
		if !ok || d.top {
			t.Errorf("%s: the process is in %+v", name, d)
			continue
		}
		if pids, err := readPids(d.dir); err != nil || !slices.Equal(pids, []int{p.Process.Pid}) {
			t.Errorf("%s: %v, %v", name, pids, err)
		}
	}
	// A second level, an existing one, and the same again.
	must(t, Join(testName(t)+"/a/b", p.Process.Pid))
	must(t, Join(testName(t)+"/a/b/", p.Process.Pid))
	must(t, Join(testName(t), p.Process.Pid))
}

// Somebody removes the cgroup while it is empty.
func TestJoinRemoved(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	d, ok := c.controller("pids")
	if !ok {
		t.Fatal("no pids controller")
	}
	for tries, hits := 0, 0; hits < 3; tries++ {
		if tries == 1000 {
			t.Fatalf("the cgroup was removed before the process was in it %d times of %d", hits, tries)
		}
		stop, removed := make(chan struct{}), make(chan bool)
		name := fmt.Sprintf("%s/%d", testName(t), tries)
		go func() { removed <- ocitest.RemoveOnce(filepath.Join(d.dir, strconv.Itoa(tries)), stop) }()
		must(t, Join(name, p.Process.Pid))
		close(stop)
		if <-removed {
			hits++
		}
		if pids, err := readPids(filepath.Join(d.dir, strconv.Itoa(tries))); err != nil || !slices.Equal(pids, []int{p.Process.Pid}) {
			t.Fatalf("%s: %v, %v", name, pids, err)
		}
	}
}

func TestJoinErrors(t *testing.T) {
	needRoot(t)
	for path, class := range map[string]func(error) bool{
		"":                  errdefs.IsInvalidArgument,
		"system.slice:q:x":  errdefs.IsInvalidArgument,
		testName(t) + "/no": errdefs.IsNotFound,
	} {
		t.Cleanup(func() { removeAll(t, testName(t)) })
		if err := Join(path, 1<<30); !class(err) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestJoinUnified(t *testing.T) {
	if !inUnified(t) {
		return
	}
	must(t, writeFile(mountPoint, "cgroup.subtree_control", "+hugetlb"))
	p := start(t, "idle")
	c := makeUnified(t, p.Process.Pid)

	// A cgroup that hands out controllers takes no process.
	inner := testName(t) + "/inner"
	t.Cleanup(func() { removeAll(t, testName(t)) })
	must(t, os.MkdirAll(filepath.Join(mountPoint, inner, "leaf"), 0o755))
	must(t, Join(testName(t)+"/other", p.Process.Pid))
	must(t, writeFile(c.unified, "cgroup.subtree_control", "+hugetlb"))
	must(t, writeFile(filepath.Join(mountPoint, inner), "cgroup.subtree_control", "+hugetlb"))
	if err := Join(inner, p.Process.Pid); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("joining an inner cgroup: %v", err)
	}

	// Nor does one beside a threaded cgroup.
	name := testName(t) + "-t"
	t.Cleanup(func() { removeAll(t, name) })
	must(t, os.MkdirAll(filepath.Join(mountPoint, name, "threaded"), 0o755))
	must(t, os.MkdirAll(filepath.Join(mountPoint, name, "beside"), 0o755))
	must(t, writeFile(filepath.Join(mountPoint, name, "threaded"), "cgroup.type", "threaded"))
	q := start(t, "idle")
	if err := Join(name+"/beside", q.Process.Pid); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("joining an invalid domain: %v", err)
	}
}
