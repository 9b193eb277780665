// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// What runc and crun say when they find the cgroup gone that they have just made.
const vanishedWords = "runc create failed: unable to start container process: unable to apply cgroup configuration: " +
	"failed to write 2777: openat2 /sys/fs/cgroup/blkio/a/b/cgroup.procs: no such file or directory"

func TestVanishedCgroup(t *testing.T) {
	f, r := newFake(t, "true")
	f.Set("create", ocitest.Failpoint{Times: placeTries - 1, Exit: 1, Message: vanishedWords})
	create(t, r, "c", Stdio{})
	if n := steps(f, "create"); n != placeTries {
		t.Errorf("%d creates, want %d", n, placeTries)
	}
	must(t, r.Delete(background(t), "c", true))

	f, r = newFake(t, "true")
	f.Set("create", ocitest.Failpoint{Exit: 1, Message: vanishedWords})
	_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
	wantError(t, err, nil, "OCI runtime create failed: "+vanishedWords, "something removes the container's cgroup")
	if n := steps(f, "create"); n != placeTries {
		t.Errorf("%d creates, want %d", n, placeTries)
	}

	// What cannot be removed in between is not begun again.
	f, r = newFake(t, "true")
	f.Set("create", ocitest.Failpoint{Exit: 1, Message: vanishedWords})
	f.Set("delete", ocitest.Failpoint{Exit: 1, Message: "busy"})
	_, err = r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
	wantError(t, err, nil, "OCI runtime create failed: "+vanishedWords)
	if n := steps(f, "create"); n != 1 {
		t.Errorf("%d creates, want 1", n)
	}
}

func steps(f *ocitest.Fake, step string) (n int) {
	for _, c := range f.Calls() {
		if c.Step == step {
			n++
		}
	}
	return n
}

func TestCgroupVanished(t *testing.T) {
	for message, want := range map[string]bool{
		vanishedWords: true,
		"write /sys/fs/cgroup/pids/a/cgroup.procs: no such device":                                   true,
		"mkdir /sys/fs/cgroup/blkio/leaks/leak-37: no such file or directory":                        true,
		"open /sys/fs/cgroup/cpuset/a/b/cpuset.cpus: no such file or directory":                      true,
		"opening file `/sys/fs/cgroup/memory/a/cgroup.procs` for writing: No such file or directory": true,
		"creating cgroup directory `/sys/fs/cgroup/pids/quoin`: No such file or directory":           true,
		"openat2 /sys/fs/cgroup/memory/a/memory.memsw.limit_in_bytes: no such file or directory":     false,
		"write /sys/fs/cgroup/a/cgroup.procs: device or resource busy":                               false,
		"exec /sys/fs/cgroup.procs: no such file or directory":                                       false,
		"mkdir /run/x/rootfs/sys/fs/cgroup/systemd: no such file or directory":                       false,
		"stat /bin/cgroup.procs: no such file or directory":                                          false,
		"openat2 /sys/fs/cgroup/x/memory.max: no such file or directory (and not a/cgroup.procs, b)": false,
	} {
		if got := cgroupVanished(message); got != want {
			t.Errorf("%q: %v", message, got)
		}
	}
}

// Real runtimes, and somebody who removes their cgroups while they are empty, as
// systemd does on cgroup v1.
func TestRealVanishedCgroup(t *testing.T) {
	hierarchy := "/sys/fs/cgroup/pids" // one of cgroup v1's
	if _, err := os.Stat(hierarchy); errors.Is(err, os.ErrNotExist) {
		hierarchy = "/sys/fs/cgroup"
	}
	for _, b := range beds(t) {
		t.Run(b.name, func(t *testing.T) {
			r := newRuntime(t, Config{Binary: b.binary, Root: t.TempDir(), Bundle: realBundle(t, "1.0.2", "sleep", "1000")})
			spec, _, err := readSpec(filepath.Join(r.cfg.Bundle, specName))
			must(t, err)
			_, path, found := strings.Cut(string(spec), `"cgroupsPath": "`)
			path, _, ended := strings.Cut(path, `"`)
			if !found || !ended {
				t.Fatalf("no cgroupsPath in %s", spec)
			}
			t.Cleanup(func() { must(t, r.Delete(background(t), "c", true)) })
			// Once: the runtime's next try has to find it removed no more.
			for tries, hits := 0, 0; hits < 3; tries++ {
				if tries == 100 {
					t.Fatalf("the cgroup was removed under the runtime %d times in %d creates", hits, tries)
				}
				stop, removed := make(chan struct{}), make(chan bool)
				go func() { removed <- ocitest.RemoveOnce(filepath.Join(hierarchy, path), stop) }()
				pid := create(t, r, "c", Stdio{})
				close(stop)
				if <-removed {
					hits++
				}
				if in, err := os.ReadFile(filepath.Join(hierarchy, path, "cgroup.procs")); err != nil || !slices.Contains(strings.Fields(string(in)), strconv.Itoa(pid)) {
					t.Errorf("in the cgroup: %q, %v; want %d", in, err, pid)
				}
				must(t, r.Delete(t.Context(), "c", true))
				reap(t, pid)
			}
		})
	}
}
