// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"time"
)

// deadlines bound a run. What the checks look at together is gathered first;
// then they run side by side, and what heeds its deadline gets a moment to say
// what it waited for.
type deadlines struct {
	gather, check, grace time.Duration
}

// realDeadlines add up to less than the 10 seconds that are promised.
func realDeadlines() deadlines {
	return deadlines{gather: 3 * time.Second, check: 4 * time.Second, grace: time.Second}
}

// check looks at one thing. What it does not set of ID, Group and Title is
// taken from here; it may also have several findings, or none.
type check struct {
	group, id, title string
	look             func(ctx context.Context, w *world) []Finding
}

// one is for checks that always have one finding.
func one(look func(context.Context, *world) Finding) func(context.Context, *world) []Finding {
	return func(ctx context.Context, w *world) []Finding { return []Finding{look(ctx, w)} }
}

// checks are all there are, in the order in which they are shown.
func checks() []check {
	return []check{
		{"host", "host.init", "init system", one(checkInit)},
		{"host", "host.kernel", "kernel", one(checkKernel)},
		{"host", "host.capabilities", "capabilities", one(checkCapabilities)},
		{"cgroups", "cgroup.version", "version", one(checkCgroupVersion)},
		{"cgroups", "cgroup.controllers", "controllers", one(checkControllers)},
		{"cgroups", "cgroup.delegation", "delegation", one(checkDelegation)},
		{"cgroups", "cgroup.unit", "quoind.service", checkUnit},
		{"cgroups", "cgroup.driver", "driver", one(checkDriver)},
		{"cgroups", "cgroup.shapes", "containers", one(checkShapes)},
		{"kubernetes", "kubernetes.kubelet", "kubelet", one(checkKubelet)},
		{"kubernetes", "kubernetes.kubelet_driver", "kubelet's driver", one(checkKubeletDriver)},
		{"kubernetes", "kubernetes.runtime_config", "RuntimeConfig", one(checkRuntimeConfig)},
		{"kubernetes", "kubernetes.pods", "live pods", one(checkPods)},
		{"programs", "programs.daemon", "daemon", one(checkDaemon)},
		{"programs", "programs.shim", "shim", one(checkShim)},
		{"programs", "programs.runtime", "OCI runtimes", checkRuntimes},
		{"shims", "shims.deadlines", "deadlines", one(checkDeadlines)},
		{"shims", "shims.loggers", "binary loggers", one(checkLoggers)},
		{"storage", "storage.overlay", "overlayfs", one(checkOverlay)},
		{"storage", "storage.filesystem", "file system", one(checkFilesystem)},
		{"storage", "storage.d_type", "d_type", one(checkEntryTypes)},
		{"storage", "storage.idmap", "idmapped mounts", one(checkIdmap)},
		{"storage", "storage.quota", "project quota", one(checkQuota)},
		{"storage", "storage.root", "space in root", one(checkRootSpace)},
		{"storage", "storage.state", "space in state", one(checkStateSpace)},
		{"files", "files.root", "root", one(checkRootMode)},
		{"files", "files.state", "state", one(checkStateMode)},
		{"files", "files.bundles", "bundles", one(checkBundlesMode)},
		{"files", "files.shim_sockets", "shims' sockets", one(checkShimSocketsMode)},
		{"files", "files.socket", "gRPC socket", one(checkSocketMode)},
		{"files", "files.ttrpc", "ttrpc socket", one(checkTTRPCMode)},
		{"limits", "limits.pids", "processes", one(checkPids)},
		{"limits", "limits.inotify", "inotify", one(checkInotify)},
		{"limits", "limits.user_namespaces", "user namespaces", one(checkUserNamespaces)},
	}
}

// examine looks at the host. It returns within the host's deadlines, whatever
// hangs: what has not answered by then is a finding of its own, and the
// goroutine that waits for it is left behind.
func examine(ctx context.Context, h *host) *Report {
	w := gather(ctx, h)
	defer w.close()
	return newReport(runAll(ctx, w, checks(), h.deadlines))
}

func runAll(ctx context.Context, w *world, all []check, d deadlines) []Finding {
	ctx, cancel := context.WithTimeout(ctx, d.check)
	defer cancel()
	results := make([]chan []Finding, len(all))
	for i, c := range all {
		results[i] = make(chan []Finding, 1)
		go func() { results[i] <- c.look(ctx, w) }()
	}
	grace := time.NewTimer(d.check + d.grace)
	defer grace.Stop()
	late := false
	var out []Finding
	for i, c := range all {
		var found []Finding
		if late {
			found = takeIfDone(results[i], c, d.check)
		} else {
			select {
			case found = <-results[i]:
			case <-grace.C:
				late = true
				found = takeIfDone(results[i], c, d.check)
			}
		}
		for _, f := range found {
			out = append(out, c.complete(f))
		}
	}
	return out
}

func takeIfDone(result <-chan []Finding, c check, deadline time.Duration) []Finding {
	select {
	case found := <-result:
		return found
	default:
		return []Finding{warning("find out what hangs (a file system, a program, the daemon) and run quoinctl doctor again",
			"%s: no answer within %s", c.title, deadline)}
	}
}

func (c check) complete(f Finding) Finding {
	if f.ID == "" {
		f.ID = c.id
	}
	if f.Group == "" {
		f.Group = c.group
	}
	if f.Title == "" {
		f.Title = c.title
	}
	return f
}

// bounded runs f and returns what it does, or an error when ctx ends first.
func bounded[T any](ctx context.Context, what string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("%s: no answer in time", what)
	}
}
