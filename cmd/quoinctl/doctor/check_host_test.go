// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"testing"
)

func TestHost(t *testing.T) {
	const init, kernel, caps = "host.init", "host.kernel", "host.capabilities"
	silent := func(_ *testing.T, f fixture) { f.askUnit = unanswered }
	for name, s := range map[string]scenario{
		"systemd":        {id: init, want: OK, message: "systemd is process 1 and answers on D-Bus (/sbin/init is a link to /lib/systemd/systemd)"},
		"other":          {id: init, files: noSystemd, want: OK, message: "process 1 is sh, not systemd (/sbin/init"},
		"no proc":        {id: init, files: file("/proc/1/comm", gone), want: Fail, fix: "mount proc"},
		"foreign run":    {id: init, files: file("/proc/1/comm", "sh\n"), want: Warn, message: "process 1 is sh", fix: "do not mount"},
		"no run":         {id: init, files: file("/run/systemd/system/", gone), want: Warn, message: "not a directory here", fix: "mount the host's /run"},
		"deaf, cgroupfs": {id: init, alone: true, change: silent, files: both(noPods, cgroupfsPods), want: Warn, message: "does not answer on D-Bus: bus is down"},
		"deaf, systemd":  {id: init, alone: true, change: silent, want: Fail, message: "does not answer", fix: "systemctl"},
		"deaf to us":     {id: init, change: silent, want: OK}, // but not to quoind

		"new":          {id: kernel, want: OK, message: "Linux 6.12.5-amd64"},
		"floor":        {id: kernel, files: file("/proc/sys/kernel/osrelease", "5.10.0\n"), want: OK},
		"old":          {id: kernel, files: file("/proc/sys/kernel/osrelease", "5.9.16-x\n"), want: Fail, message: "older than 5.10", fix: "boot"},
		"ancient":      {id: kernel, files: file("/proc/sys/kernel/osrelease", "4.19\n"), want: Fail},
		"unknown":      {id: kernel, files: file("/proc/sys/kernel/osrelease", gone), want: Warn},
		"no pidfd":     {id: kernel, change: func(_ *testing.T, f fixture) { f.kernel.pidfd = fails }, want: Fail, message: "pidfd_open", fix: "seccomp"},
		"no subreaper": {id: kernel, change: func(_ *testing.T, f fixture) { f.kernel.subreaper = fails }, want: Fail, message: "subreaper", fix: "seccomp"},

		"all":         {id: caps, want: OK},
		"no resource": {id: caps, files: file("/proc/self/status", "x\nCapBnd:\t000001fffeffffff\n"), want: Warn, message: "CAP_SYS_RESOURCE", fix: "restrict_oom_score_adj = true"},
		"made up for": {id: caps, files: file("/proc/self/status", "x\nCapBnd:\t000001fffeffffff\n",
			"/etc/quoind/conf.d/a.toml", "[plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\n"), want: OK, message: "makes up for"},
		"none":       {id: caps, files: file("/proc/self/status", "x\nCapBnd:\t0\n"), want: Fail, message: "CAP_SYS_ADMIN"},
		"unreadable": {id: caps, files: file("/proc/self/status", "x\n"), want: Warn, fix: "root"},
		"the daemon's": {id: caps, files: file("/proc/99/status", "x\nCapBnd:\t0\n"),
			change: func(_ *testing.T, f fixture) { f.daemon.pid = 99 }, want: Fail, message: "CAP_KILL"},
	} {
		check1(t, name, s)
	}
}

func unanswered(context.Context) (string, error) { return "", errors.New("bus is down") }
