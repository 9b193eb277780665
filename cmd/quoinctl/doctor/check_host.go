// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkInit tells which init system runs, as "ps -p 1 -o comm=" and
// "ls -l /sbin/init" would, and whether it answers.
func checkInit(_ context.Context, w *world) Finding {
	comm := w.line("/proc/1/comm")
	if comm == "" {
		return failure("mount proc on /proc", "the name of process 1 cannot be read from /proc/1/comm")
	}
	link, err := os.Readlink(w.at("/sbin/init"))
	installed := ""
	if err == nil {
		installed = fmt.Sprintf(" (/sbin/init is a link to %s)", link)
	}
	return initFinding(w, comm, installed).
		with("process_1", comm).
		with("sbin_init", link).
		with("systemd_booted", w.isDir("/run/systemd/system"))
}

func initFinding(w *world, comm, installed string) Finding {
	booted := w.isDir("/run/systemd/system")
	answered := w.node.facts.Answered || w.daemon.driver["systemd"] == "true"
	switch {
	case booted && comm != systemd:
		return warning("run quoinctl, and quoind, where systemd is process 1, or do not mount the host's /run/systemd there",
			"/run/systemd/system is there, but process 1 is %s%s", comm, installed)
	case booted && !answered:
		f := warning("see why: systemctl status dbus systemd-logind; systemctl daemon-reexec",
			"systemd is process 1%s, but does not answer on D-Bus: %s", installed, w.node.facts.BusError)
		if w.node.driver == systemd {
			f.Status = Fail
		}
		return f
	case booted:
		return good("systemd is process 1 and answers on D-Bus%s", installed)
	case comm == systemd:
		return warning("mount the host's /run where quoind runs, or set driver = \"cgroupfs\"",
			"process 1 is systemd, but /run/systemd/system is not a directory here%s", installed)
	}
	return good("process 1 is %s, not systemd%s", comm, installed)
}

// The kernel floor: pidfds that can be waited for (5.4), and what else the shim
// takes for granted.
const floorMajor, floorMinor = 5, 10

func checkKernel(_ context.Context, w *world) Finding {
	release := w.line("/proc/sys/kernel/osrelease")
	major, minor, ok := kernelVersion(release)
	if !ok {
		return warning("mount proc on /proc", "the kernel's release cannot be read (%q)", release)
	}
	f := good("Linux %s, with pidfd and subreaper", release)
	pidfdErr, reaperErr := w.kernel.pidfd(), w.kernel.subreaper()
	switch {
	case major < floorMajor || major == floorMajor && minor < floorMinor:
		f = failure(fmt.Sprintf("boot Linux %d.%d or newer", floorMajor, floorMinor),
			"Linux %s is older than %d.%d", release, floorMajor, floorMinor)
	case pidfdErr != nil:
		f = failure("allow pidfd_open in the seccomp profile of the container or sandbox that this runs in",
			"Linux %s, but pidfd_open fails: %v", release, pidfdErr)
	case reaperErr != nil:
		f = failure("allow prctl(PR_SET_CHILD_SUBREAPER) in the seccomp profile of the container or sandbox that this runs in",
			"Linux %s, but a process cannot become a subreaper: %v", release, reaperErr)
	}
	return f.with("release", release).with("pidfd", pidfdErr == nil).with("subreaper", reaperErr == nil)
}

// kernelVersion reads "6.18.5-generic".
func kernelVersion(release string) (major, minor int, ok bool) {
	first, rest, found := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(rest[:end])
	return major, minor, found && err1 == nil && err2 == nil
}

// needed are the capabilities without which no container starts.
var needed = []struct {
	name string
	bit  uint
}{
	{"CAP_CHOWN", unix.CAP_CHOWN}, {"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE}, {"CAP_KILL", unix.CAP_KILL},
	{"CAP_SETGID", unix.CAP_SETGID}, {"CAP_SETUID", unix.CAP_SETUID}, {"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT},
	{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}, {"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_MKNOD", unix.CAP_MKNOD},
}

// checkCapabilities looks at the bounding set of the daemon, else at ours: it
// says what root can have here.
func checkCapabilities(_ context.Context, w *world) Finding {
	who := "self"
	if w.daemon.pid > 0 {
		who = strconv.Itoa(w.daemon.pid)
	}
	status, err := w.read("/proc/" + who + "/status")
	_, rest, ok := strings.Cut(status, "\nCapBnd:")
	hex, _, _ := strings.Cut(rest, "\n")
	bounding, parseErr := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
	if err != nil || !ok || parseErr != nil {
		return warning(asRoot, "the capabilities cannot be read from /proc/%s/status", who)
	}
	var missing []string
	for _, c := range needed {
		if bounding&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	resource := bounding&(1<<unix.CAP_SYS_RESOURCE) != 0
	f := good("all that is needed")
	switch {
	case len(missing) > 0:
		f = failure("give them to whatever container or sandbox this runs in", "root lacks %s here", strings.Join(missing, ", "))
	case !resource && w.settings.keepOOMScore:
		f = good("all but CAP_SYS_RESOURCE, which restrict_oom_score_adj = true makes up for")
	case !resource:
		f = warning("set restrict_oom_score_adj = true in [plugins.'io.containerd.cri.v1.runtime'], or pods do not start",
			"root lacks CAP_SYS_RESOURCE here: oom_score_adj cannot be lowered")
	}
	return f.with("bounding_set", strings.TrimSpace(hex))
}
