// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"testing"

	"github.com/quoin-io/quoin/config"
)

func TestShims(t *testing.T) {
	const deadlines, loggers = "shims.deadlines", "shims.loggers"
	const settings = "/etc/quoind/config.toml"
	told := func(name, value string) func(*testing.T, fixture) {
		return func(_ *testing.T, f fixture) { f.daemon.plugins[0].Exports[name] = value }
	}
	stock := func(t *testing.T, f fixture) {
		f.daemon.plugins, f.daemon.pid = nil, 500
		place(t, f.at("/proc/500/environ"), "/proc/500/environ", "PATH=/bin\x00QUOIN_DEADLINES=create=9m\x00")
	}
	for name, s := range map[string]scenario{
		"default":      {id: deadlines, want: OK, message: "all as by default"},
		"told":         {id: deadlines, change: told(config.DeadlinesEnv, "create=5m0s"), want: OK, message: "but for create=5m0s"},
		"configured":   {id: deadlines, alone: true, files: file(settings, "[plugins.'io.quoin.runtime.v1.quoin'.deadlines]\nstart = '7s'\n"), want: OK, message: "but for start=7s"},
		"of stock":     {id: deadlines, change: stock, want: OK, message: "but for create=9m"},
		"mistaken":     {id: deadlines, alone: true, files: file(settings, "[plugins.'io.quoin.runtime.v1.quoin'.deadlines]\nstarts = '7s'\n"), want: Fail, message: "no deadline \"starts\"", fix: "correct"},
		"anywhere":     {id: loggers, want: OK, message: "anywhere"},
		"somewhere":    {id: loggers, files: file("/opt/loggers/", "0755"), change: told(config.LoggerDirsEnv, "/opt/loggers"), want: OK, message: "may be in /opt/loggers"},
		"nowhere":      {id: loggers, change: told(config.LoggerDirsEnv, "/opt/loggers"), want: Fail, message: "/opt/loggers: ", fix: "logger_dirs"},
		"open":         {id: loggers, files: file("/opt/loggers/", "0777"), change: told(config.LoggerDirsEnv, "/opt/loggers"), want: Fail, message: "mode 0777", fix: "chmod 755"},
		"open above":   {id: loggers, files: file("/opt/", "0777", "/opt/loggers/", "0755"), change: told(config.LoggerDirsEnv, "/opt/loggers"), want: Fail, message: "/opt has mode 0777"},
		"not absolute": {id: loggers, alone: true, files: file(settings, "[plugins.'io.quoin.runtime.v1.quoin']\nlogger_dirs = ['bin']\n"), want: Fail, message: "not an absolute path", fix: "correct"},
	} {
		check1(t, name, s)
	}
}
