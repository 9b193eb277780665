// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// The root of a cgroup namespace is changed only where it is ours to change, and
// what cannot be done there is a warning.
func TestMakeRoom(t *testing.T) {
	const top = "sys/fs/cgroup/"
	nested := map[string]string{
		top + "cgroup.type": "domain\n", top + "cgroup.procs": "", top + "cgroup.controllers": "cpu\n", top + "cgroup.subtree_control": "",
	}
	for name, tc := range map[string]struct {
		driver  cgroup.Driver
		file    string // of the root, with text in place of what it had
		text    string
		without bool // a systemd
		given   string
		warning string
	}{
		"cgroupfs":                  {driver: cgroup.Cgroupfs, without: true, given: "+cpu"},
		"the kernel's root":         {driver: cgroup.Cgroupfs, without: true, file: "cgroup.type", text: "-"},
		"systemd":                   {driver: cgroup.Systemd},
		"cgroupfs beside a systemd": {driver: cgroup.Cgroupfs},
		"a stranger's process":      {driver: cgroup.Cgroupfs, without: true, file: "cgroup.procs", text: "0\n", warning: "another PID namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for file, text := range nested {
				files[file] = text
			}
			if tc.file != "" {
				files[top+tc.file] = tc.text
			}
			if tc.without {
				files["run/systemd/system/"], files["proc/1/comm"] = "-", "sh\n"
			}
			root := host(t, files)
			f, err := prober{root, answers("quoind.service", nil)}.probe(t.Context())
			must(t, err)
			d := Decision{Driver: tc.driver}
			makeRoom(t.Context(), root, &f, &d)
			given, err := os.ReadFile(filepath.Join(root, top, "cgroup.subtree_control"))
			must(t, err)
			warnings := strings.Join(d.Warnings, "; ")
			if string(given) != tc.given || !strings.Contains(warnings, tc.warning) || (warnings == "") != (tc.warning == "") {
				t.Errorf("the root gives %q, want %q; warnings %q, want %q in them", given, tc.given, warnings, tc.warning)
			}
		})
	}
}
