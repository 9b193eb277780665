// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestCheckUnit(t *testing.T) {
	const path = "kubepods-pod1.slice:cri-containerd:c1"
	const at = "/kubepods.slice/kubepods-pod1.slice/cri-containerd-c1.scope"
	for name, tc := range map[string]struct {
		cgroup, state string
		found         string // in the error; "" is none
	}{
		"v2":                       {cgroup: "0::" + at + "\n"},
		"v2, below":                {cgroup: "0::" + at + "/container\n"},
		"v2, in a namespace":       {cgroup: "0::/../cri-containerd-c1.scope\n"},
		"v2, left behind":          {cgroup: "0::/system.slice/quoind.service\n", found: "/system.slice/quoind.service"},
		"v2, a like name":          {cgroup: "0::/system.slice/cri-containerd-c1.scope.d\n", found: "scope.d"},
		"v2, ended":                {cgroup: "0::/system.slice/quoind.service\n", state: "Z"},
		"v1":                       {cgroup: "3:memory:/x\n1:name=systemd:" + at + "\n0::/\n"},
		"v1, left behind":          {cgroup: "3:memory:" + at + "\n1:name=systemd:/system.slice/q.service\n", found: "/system.slice/q.service"},
		"hybrid":                   {cgroup: "1:name=systemd:/\n0::" + at + "\n"},
		"hybrid, left behind":      {cgroup: "3:memory:" + at + "\n1:name=systemd:/\n0::/system.slice/q.service\n", found: "/system.slice/q.service"},
		"v1 without systemd's":     {cgroup: "3:memory:/x\n"},
		"no such process":          {},
		"the root, as for zombies": {cgroup: "1:name=systemd:/\n", state: "Z"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			proc := filepath.Join(root, "proc/42")
			if tc.cgroup != "" {
				if err := os.MkdirAll(proc, 0o755); err != nil {
					t.Fatal(err)
				}
				if tc.state == "" {
					tc.state = "S"
				}
				for file, text := range map[string]string{"cgroup": tc.cgroup, "stat": "42 (init) " + tc.state + " 1 1\n"} {
					if err := os.WriteFile(filepath.Join(proc, file), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			err := checkUnitIn(root, 42, path)
			switch {
			case tc.found == "" && err != nil:
				t.Errorf("%v", err)
			case tc.found != "" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tc.found) || !strings.Contains(err.Error(), "reset-failed cri-containerd-c1.scope")):
				t.Errorf("%v, want %q in it", err, tc.found)
			}
		})
	}
	if err := CheckUnit(os.Getpid(), "a:b"+":"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a path that names no unit: %v", err)
	}
}
