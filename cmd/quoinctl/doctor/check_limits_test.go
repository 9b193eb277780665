// SPDX-License-Identifier: Apache-2.0

package doctor

import "testing"

func TestLimits(t *testing.T) {
	const pids, inotify, userns = "limits.pids", "limits.inotify", "limits.user_namespaces"
	for name, s := range map[string]scenario{
		"enough":      {id: pids, want: OK},
		"few pids":    {id: pids, files: file("/proc/sys/kernel/pid_max", "32768\n"), want: Warn, fix: "kernel.pid_max="},
		"few threads": {id: pids, files: file("/proc/sys/kernel/threads-max", "9000\n"), want: Warn, fix: "kernel.threads-max="},
		"unknown":     {id: pids, files: file("/proc/sys/kernel/pid_max", "many\n"), want: Warn, fix: "mount proc"},
		"many":        {id: inotify, want: OK},
		"instances":   {id: inotify, files: file("/proc/sys/fs/inotify/max_user_instances", "128\n"), want: Warn, fix: "max_user_instances="},
		"watches":     {id: inotify, files: file("/proc/sys/fs/inotify/max_user_watches", "8192\n"), want: Warn, fix: "max_user_watches="},
		"no inotify":  {id: inotify, files: file("/proc/sys/fs/inotify/max_user_watches", gone), want: Warn},
		"some":        {id: userns, want: OK},
		"forbidden":   {id: userns, files: file("/proc/sys/user/max_user_namespaces", "0\n"), want: Warn, fix: "sysctl"},
		"not built":   {id: userns, files: file("/proc/sys/user/max_user_namespaces", gone), want: Warn, fix: "CONFIG_USER_NS"},
	} {
		check1(t, name, s)
	}
}
