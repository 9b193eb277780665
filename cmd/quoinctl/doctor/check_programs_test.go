// SPDX-License-Identifier: Apache-2.0

package doctor

import "testing"

func TestPrograms(t *testing.T) {
	const daemon, shim, runc, crun, youki = "programs.daemon", "programs.shim", "programs.runtime.runc", "programs.runtime.crun", "programs.runtime.youki"
	const shimFile = "/usr/local/bin/containerd-shim-quoin-v1"
	prints := func(name, version string) string { return "#!/bin/sh\necho " + name + " version " + version + "\n" }
	for name, s := range map[string]scenario{
		"answers":      {id: daemon, want: OK, message: "quoind 0.1.0"},
		"not there":    {id: daemon, alone: true, want: Warn, message: "no quoind runs", fix: "systemctl start quoind"},
		"stale":        {id: daemon, alone: true, change: stale, want: Warn, message: "nobody listens"},
		"other one":    {id: daemon, change: func(_ *testing.T, f fixture) { f.daemon.plugins[0].Exports["version"] = "9.9" }, want: Warn, message: "quoind 9.9", fix: "restart"},
		"stock":        {id: daemon, change: stockContainerd, want: OK, message: "without Quoin's plugins"},
		"plugin fails": {id: daemon, change: failedPlugin("it broke"), want: Warn, message: "io.x.v1.y: it broke", fix: "log"},
		"plugin skips": {id: daemon, change: failedPlugin("no need: skip plugin"), want: OK},
		"bad settings": {id: daemon, files: file("/etc/quoind/config.toml", "root = [\n"), want: Warn, message: "/etc/quoind/config.toml", fix: "correct"},
		"bad drop-in":  {id: daemon, files: file("/etc/quoind/conf.d/a.toml", "root = [\n"), want: Warn, message: "/etc/quoind/conf.d/a.toml"},
		"not imported": {id: daemon, files: file("/etc/quoind/config.toml", "imports = []\n", "/etc/quoind/conf.d/a.toml", "root = [\n"), want: OK},
		"imported":     {id: daemon, files: file("/etc/quoind/config.toml", "imports = ['x.toml']\n", "/etc/quoind/x.toml", "root = [\n"), want: Warn, message: "x.toml"},

		"same":     {id: shim, want: OK, message: shimFile},
		"none":     {id: shim, files: file(shimFile, gone), want: Fail, fix: "make install"},
		"older":    {id: shim, files: file(shimFile, "#!/bin/sh\necho Version: 0.0.1; echo Revision: abc\n"), want: Warn, message: "0.0.1 (revision abc)", fix: "make install"},
		"mute":     {id: shim, files: file(shimFile, "#!/bin/sh\n"), want: Warn, message: "unknown version"},
		"broken":   {id: shim, files: file(shimFile, "#!/bin/sh\nexit 3\n"), want: Fail, message: "exit status 3"},
		"no shell": {id: shim, files: file(shimFile, "#!/nowhere\n"), want: Fail, message: "no such file"},
		"in the daemon's PATH": {id: shim, files: file("/proc/99/environ", "A=b\x00PATH=/opt/x\x00", "/opt/x/containerd-shim-quoin-v1", "#!/bin/sh\nexit 3\n"),
			change: func(_ *testing.T, f fixture) { f.daemon.pid = 99 }, want: Fail, message: "/opt/x/"},
		"beside the daemon": {id: shim, files: file(shimFile, gone, "/proc/99/exe", "-> /opt/y/quoind (deleted)", "/opt/y/containerd-shim-quoin-v1", "#!/bin/sh\nexit 3\n"),
			change: func(_ *testing.T, f fixture) { f.daemon.pid = 99 }, want: Fail, message: "/opt/y/"},
		"of another pid namespace": {id: shim, files: file("/proc/99/environ", "PATH=/opt/x\x00"),
			change: func(_ *testing.T, f fixture) { f.daemon.pid, f.daemon.pidns = 99, 1 }, want: OK},

		"new":               {id: runc, want: OK, message: "/usr/bin/runc 1.5.2"},
		"old":               {id: runc, files: file("/usr/bin/runc", prints("runc", "1.1.5+ds1")), want: Warn, message: "known container escapes", fix: "1.3.6"},
		"old, new after it": {id: runc, files: file("/usr/local/bin/runc", prints("runc", "1.4.2")), want: Warn, fix: "take it out of PATH if /usr/bin/runc"},
		"old, new shipped": {id: runc, files: file("/usr/bin/runc", prints("runc", "1.4.2"), "/usr/local/libexec/quoin/runc", prints("runc", "1.5.2")), want: OK,
			message: "/usr/local/libexec/quoin/runc 1.5.2, which quoind uses in place of /usr/bin/runc: runc 1.4.2 is older than 1.4.3"},
		"new, new shipped": {id: runc, files: file("/usr/local/libexec/quoin/runc", prints("runc", "1.5.3")), want: OK, message: "/usr/bin/runc 1.5.2"},
		"old, old shipped": {id: runc, files: file("/usr/bin/runc", prints("runc", "1.4.2"), "/usr/local/libexec/quoin/runc", prints("runc", "1.4.0")), want: Warn, message: "/usr/bin/runc: runc 1.4.2"},
		"no runc":          {id: runc, files: file("/usr/bin/runc", gone), want: Fail, fix: "make install"},
		"crun alone":       {id: runc, files: file("/usr/bin/runc", gone, "/usr/bin/crun", prints("crun", "1.20")), want: Warn, fix: "BinaryName"},
		"rubbish":          {id: runc, files: file("/usr/bin/runc", "#!/bin/sh\necho hello\n"), want: Fail, message: "does not tell its version"},
		"not executable":   {id: runc, files: file("/usr/bin/runc", "text"), want: Fail, message: "neither"},
		"crun":             {id: crun, files: file("/usr/bin/crun", prints("crun", "1.30")), want: OK, message: "1.30"},
		"old crun":         {id: crun, files: file("/usr/bin/crun", prints("crun", "1.8.1")), want: Warn, message: "crun 1.8.1 is older than 1.30", fix: "update it to 1.30"},
		"youki":            {id: youki, files: file("/usr/local/bin/youki", prints("youki", "0.5.7")), want: OK, message: "0.5.7"},
	} {
		check1(t, name, s)
	}
}
