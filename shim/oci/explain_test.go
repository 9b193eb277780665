// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	for message, want := range map[string]string{
		"error setting cgroup config for procHooks process: openat2 /sys/fs/cgroup/default/c1/cpu.weight: no such file or directory": "the cpu controller to /sys/fs/cgroup/default/c1;",
		"open /sys/fs/cgroup/c1/cpuset.cpus: no such file or directory":                                                              "the cpuset controller to /sys/fs/cgroup/c1;",
		"open /sys/fs/cgroup/c1/cgroup.procs: no such file or directory":                                                             "",
		"open /sys/fs/cgroup/memory/c1/memory.limit_in_bytes: permission denied":                                                     "",
		"open /sys/fs/cgroup/cpu,cpuacct/c1/cpu.shares: no such file or directory":                                                   "",
		"mkdir /sys/fs/cgroup/default: permission denied":                                                                            "",
		"exec: no such file or directory":                                                                                            "",
		"mount /sys/fs/cgroup/x failed; open /memory.max: no such file or directory":                                                 "",
	} {
		got := explain(message)
		added, ok := strings.CutPrefix(got, message)
		if !ok || (added == "") != (want == "") || !strings.Contains(added, want) {
			t.Errorf("%q\nbecomes %q\nwant it to say %q", message, got, want)
		}
	}
}
