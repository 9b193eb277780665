// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/quoin-io/quoin/config"
)

// shimVariable is what shims are told by a variable: what the running daemon says
// or, for a stock containerd, has in its environment. told is false where there is
// no daemon to be asked.
func (w *world) shimVariable(name string) (value string, told bool) {
	if w.daemon.runtime != nil {
		return w.daemon.runtime[name], true
	}
	if w.daemon.pid == 0 {
		return "", false
	}
	value, _, err := w.daemonVariable(name)
	return value, err == nil
}

// daemonVariable is a variable of the environment that the daemon was started in, and
// whether it is set there.
func (w *world) daemonVariable(name string) (value string, set bool, err error) {
	environ, err := w.read("/proc/" + strconv.Itoa(w.daemon.pid) + "/environ")
	for kv := range strings.SplitSeq(environ, "\x00") {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value, set = v, true
		}
	}
	return value, set, err
}

// checkDeadlines shows what the shims wait for at most.
func checkDeadlines(_ context.Context, w *world) Finding {
	var d config.Deadlines
	text, told := w.shimVariable(config.DeadlinesEnv)
	var err error
	if told {
		d, err = config.ParseDeadlines(text)
	} else {
		d, err = config.DeadlinesOf(w.settings.deadlines)
	}
	if err != nil {
		return failure(fmt.Sprintf("correct [plugins.'io.quoin.runtime.v1.quoin'.deadlines], or %s in the daemon's environment", config.DeadlinesEnv),
			"no shim can start: %v", err)
	}
	f := good("all as by default")
	if changed := d.String(); changed != "" {
		f = good("by default, but for %s", changed)
	}
	for _, one := range d.Table() {
		f = f.with(one.Name, one.Value.String())
	}
	return f
}

// checkLoggers tells from where binary loggers may be run, and who else could put
// one there.
func checkLoggers(_ context.Context, w *world) Finding {
	dirs := w.settings.loggerDirs
	text, told := w.shimVariable(config.LoggerDirsEnv)
	var err error
	if told {
		dirs, err = config.ParseLoggerDirs(text)
	} else {
		dirs, err = config.CheckLoggerDirs(dirs)
	}
	if err != nil {
		return failure(fmt.Sprintf("correct logger_dirs in [plugins.'io.quoin.runtime.v1.quoin'], or %s in the daemon's environment", config.LoggerDirsEnv),
			"no shim can start: %v", err)
	}
	if len(dirs) == 0 {
		return good("may be anywhere: logger_dirs is not set")
	}
	f := good("may be in %s", strings.Join(dirs, ", "))
	for _, dir := range dirs {
		if why := w.writableByOthers(dir); why != "" {
			f = failure("chown root and chmod 755 what others can write to, or take it out of logger_dirs", "the shim runs no logger from %s: %s", dir, why)
			break
		}
	}
	return f.with("dirs", dirs)
}

// writableByOthers says who but root could change what is in a directory, by it or
// one above; "" when nobody.
func (w *world) writableByOthers(dir string) string {
	for ; ; dir = filepath.Dir(dir) {
		st, err := os.Stat(w.at(dir))
		if err != nil {
			return fmt.Sprintf("%s: %v", dir, pathless(err))
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		switch {
		case !st.IsDir():
			return dir + " is no directory"
		case ok && sys.Uid != 0 && int(sys.Uid) != w.euid:
			return fmt.Sprintf("%s belongs to user %d", dir, sys.Uid)
		case st.Mode().Perm()&0o022 != 0 && st.Mode()&os.ModeSticky == 0:
			return fmt.Sprintf("%s has mode %04o", dir, st.Mode().Perm())
		}
		if dir == "/" {
			return ""
		}
	}
}
