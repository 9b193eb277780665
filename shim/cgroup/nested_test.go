// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// In a cgroup namespace whose root has processes, LeaveTop moves them all and
// hands the controllers on, so that the root stays empty.
func TestLeaveTop(t *testing.T) {
	if !inUnified(t) {
		return
	}
	if v, err := LeaveTop(within(t, time.Second), ""); err != nil || v.Moved != 0 {
		t.Errorf("in the kernel's root: %+v, %v; want nothing", v, err)
	}
	given := handedOn(t, mountPoint)
	for name, tc := range map[string]struct {
		namespaces string
		want       string
	}{
		"with a neighbour": {"", "moved 2"},
		// The shell is outside the PID namespace of the other.
		"a stranger": {"--pid --fork --mount-proc", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(mountPoint, testName(t))
			must(t, os.Mkdir(dir, 0o755))
			t.Cleanup(func() { removeAll(t, testName(t)) })
			script := fmt.Sprintf(`echo $$ >%s/cgroup.procs || exit
				unshare --cgroup --mount %s sh -c 'umount %s && mount -t cgroup2 cgroup2 %[3]s && exec "$0"' "$0" || exit
				: stays beside`, dir, tc.namespaces, mountPoint)
			cmd := exec.CommandContext(within(t, 20*time.Second), "sh", "-c", script, os.Args[0])
			cmd.Env = append(os.Environ(), helperEnv+"=leave")
			cmd.Stdin = strings.NewReader("leave\n")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), tc.want) {
				t.Fatalf("%v, want %q:\n%s", err, tc.want, out)
			}
			if tc.want == "refused" {
				return
			}
			if left, err := readPids(dir); err != nil || len(left) > 0 {
				t.Errorf("left in the root: %v, %v", left, err)
			}
			if got := handedOn(t, dir); got != given {
				t.Errorf("the root hands on %q, it has %q", got, given)
			}
			for _, file := range []string{"cgroup.type", "cgroup.procs"} {
				if !fileExists(filepath.Join(dir, Leaf, file)) {
					t.Errorf("no %s in the leaf", file)
				}
			}
		})
	}
}

// handedOn is what a cgroup's children can have.
func handedOn(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	must(t, err)
	return strings.TrimSpace(string(data))
}

// leave is what the helper does that runs in the namespaces.
func leave() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := LeaveTop(ctx, "")
	switch {
	case errdefs.IsFailedPrecondition(err):
		return "refused: " + err.Error()
	case err != nil:
		return err.Error()
	}
	if f, err := Probe(""); err != nil || f.Path != Leaf || !f.Nested || f.Barred || !f.Delegated {
		return fmt.Sprintf("%+v, %v", f, err)
	}
	return fmt.Sprintf("moved %d", v.Moved)
}
