// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"strconv"
)

// What a node with a hundred pods and more needs, with room to spare.
const (
	enoughPids      = 65536
	enoughThreads   = 65536
	enoughInstances = 512   // one pod in ten with a file watcher of its own, several in each
	enoughWatches   = 65536 // log shippers watch a file for each container and rotation
)

// number reads a file of one number.
func (h *host) number(path string) (uint64, bool) {
	n, err := strconv.ParseUint(h.line(path), 10, 64)
	return n, err == nil
}

func checkPids(_ context.Context, w *world) Finding {
	pids, ok1 := w.number("/proc/sys/kernel/pid_max")
	threads, ok2 := w.number("/proc/sys/kernel/threads-max")
	f := good("kernel.pid_max %d, kernel.threads-max %d", pids, threads)
	switch {
	case !ok1 || !ok2:
		f = warning("mount proc on /proc", "kernel.pid_max and kernel.threads-max cannot be read")
	case pids < enoughPids:
		f = warning("sysctl -w kernel.pid_max=4194304, and keep it in /etc/sysctl.d", "kernel.pid_max is %d: few for a node full of containers", pids)
	case threads < enoughThreads:
		f = warning("sysctl -w kernel.threads-max=262144, and keep it in /etc/sysctl.d", "kernel.threads-max is %d: few for a node full of containers", threads)
	}
	return f.with("pid_max", pids).with("threads_max", threads)
}

func checkInotify(_ context.Context, w *world) Finding {
	instances, ok1 := w.number("/proc/sys/fs/inotify/max_user_instances")
	watches, ok2 := w.number("/proc/sys/fs/inotify/max_user_watches")
	f := good("fs.inotify.max_user_instances %d, max_user_watches %d", instances, watches)
	switch {
	case !ok1 || !ok2:
		f = warning("mount proc on /proc", "fs.inotify.* cannot be read")
	case instances < enoughInstances:
		f = warning("sysctl -w fs.inotify.max_user_instances=8192, and keep it in /etc/sysctl.d",
			"fs.inotify.max_user_instances is %d: all containers that run as root share it", instances)
	case watches < enoughWatches:
		f = warning("sysctl -w fs.inotify.max_user_watches=524288, and keep it in /etc/sysctl.d",
			"fs.inotify.max_user_watches is %d: all containers that run as root share it", watches)
	}
	return f.with("max_user_instances", instances).with("max_user_watches", watches)
}

func checkUserNamespaces(_ context.Context, w *world) Finding {
	n, ok := w.number("/proc/sys/user/max_user_namespaces")
	f := good("user.max_user_namespaces %d", n)
	switch {
	case !ok:
		f = warning("boot a kernel with CONFIG_USER_NS, if pods are to have them", "the kernel has none: pods with hostUsers: false cannot run")
	case n == 0:
		f = warning("sysctl -w user.max_user_namespaces=16384, if pods are to have them", "user.max_user_namespaces is 0: pods with hostUsers: false cannot run")
	}
	return f.with("max_user_namespaces", n)
}
