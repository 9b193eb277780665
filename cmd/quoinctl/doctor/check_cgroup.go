// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/quoin-io/quoin/plugins/cgroupdriver"
)

// The modes, as cgroup.Mode names them.
const (
	unavailable = "unavailable"
	unified     = "unified"
)

func checkCgroupVersion(_ context.Context, w *world) Finding {
	if err := w.node.factsErr; err != nil {
		return failure("mount proc on /proc and cgroup2 on /sys/fs/cgroup", "the cgroup mounts cannot be read: %v", err)
	}
	const v2 = "boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1 on the kernel's command line; without systemd, mount only cgroup2 on /sys/fs/cgroup)"
	mode := w.node.facts.Mode
	f := good("v2 (unified)")
	switch {
	case mode.String() == unavailable:
		f = failure("mount cgroup2 on /sys/fs/cgroup", "no cgroup file system is mounted")
	case cgroupdriver.VersionWarning(mode) != "":
		f = warning(v2, "v1 (%s): kubelet refuses it by default since 1.35, systemd since 256", mode)
	}
	return f.with("mode", mode.String())
}

// Controllers that the kubelet or a limit needs.
var (
	vitalV2  = []string{"cpu", "memory", "pids"}
	vitalV1  = []string{"cpu", "memory", "pids", "devices", "freezer"}
	usefulV2 = []string{"cpuset", "io"}
	usefulV1 = []string{"cpuset", "blkio", "cpuacct"}
)

// checkControllers looks at the top of the hierarchy: what a session of a user
// has may be less.
func checkControllers(_ context.Context, w *world) Finding {
	mode := w.node.facts.Mode.String()
	have, vital, useful := w.node.facts.Controllers, vitalV1, usefulV1
	switch mode {
	case unavailable:
		return failure("mount cgroup2 on /sys/fs/cgroup", "none")
	case unified:
		vital, useful = vitalV2, usefulV2
		if top := strings.Fields(w.line("/sys/fs/cgroup/cgroup.controllers")); len(top) > 0 {
			have = slices.Sorted(slices.Values(top))
		}
	}
	lacks := func(names []string) (out []string) {
		for _, n := range names {
			if !slices.Contains(have, n) {
				out = append(out, n)
			}
		}
		return out
	}
	fix := "enable them: take cgroup_disable= off the kernel's command line (on a Raspberry Pi add cgroup_enable=memory), and on v1 mount them"
	if w.node.facts.Nested {
		fix = delegateFix
	}
	f := good("%s", strings.Join(have, " "))
	if missing := lacks(vital); len(missing) > 0 {
		f = failure(fix, "%s missing: containers cannot be limited", strings.Join(missing, ", "))
	} else if missing := lacks(useful); len(missing) > 0 {
		f = warning(fix, "%s missing: limits on these have no effect", strings.Join(missing, ", "))
	}
	if have == nil {
		have = []string{}
	}
	return f.with("controllers", have)
}

// checkDelegation asks whether the daemon may make cgroups where it runs.
func checkDelegation(_ context.Context, w *world) Finding {
	const fix = "have the cgroup delegated to quoind: Delegate=yes in its unit, or a writable /sys/fs/cgroup in its container"
	facts := w.node.facts
	path, delegated, userns, whose := facts.Path, facts.Delegated, facts.UserNamespace, "quoinctl's own cgroup"
	if e := w.daemon.driver; e != nil {
		path, delegated, userns, whose = e["cgroup"], e["delegated"] == "true", e["user_namespace"] == "true", "quoind's cgroup"
	} else if w.euid != 0 {
		return warning(asRoot, "what root may do with cgroups cannot be seen")
	}
	f := good("%s (%s) can have cgroups below it", whose, path)
	if barred, ok := w.barred(); ok && w.node.driver == cgroupfs {
		f = barred
	} else if withheld, ok := w.withheld(); ok {
		f = withheld
	} else if !delegated {
		f = warning(fix, "%s (%s) is read-only", whose, path)
		if userns || w.node.driver == cgroupfs {
			f.Status = Fail
		}
	}
	return f.with("cgroup", path).with("delegated", delegated).with("user_namespace", userns)
}

// unitDirs are systemd's, the first that has a unit counts.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

const unitName = "quoind.service"

// checkUnit reads quoind's unit, with its drop-ins.
func checkUnit(_ context.Context, w *world) []Finding {
	if !w.isDir("/run/systemd/system") || w.node.source == byShim {
		return nil
	}
	var have map[string]string
	for _, dir := range unitDirs {
		if have = w.readUnit(dir + "/" + unitName); have != nil {
			break
		}
	}
	if have == nil {
		return []Finding{warning("install it (make install), then: systemctl daemon-reload; systemctl enable --now quoind",
			"systemd has no unit %s", unitName)}
	}
	for _, dir := range slices.Backward(unitDirs) {
		for _, file := range w.glob(dir + "/" + unitName + ".d/*.conf") {
			for name, value := range w.readUnit(file) {
				have[name] = value
			}
		}
	}
	delegate, mode := strings.ToLower(have["Delegate"]), have["KillMode"]
	f := good("Delegate=%s, KillMode=%s", have["Delegate"], mode)
	switch {
	case slices.Contains([]string{"", "no", "false", "0", "off"}, delegate):
		f = failure("set Delegate=yes in the unit, then: systemctl daemon-reload; systemctl restart quoind",
			"the unit does not say Delegate=yes: systemd changes what is below quoind's cgroup")
	case mode != "process":
		f = warning("set KillMode=process in the unit, then: systemctl daemon-reload",
			"the unit does not say KillMode=process: stopping quoind ends what else is in its cgroup")
	}
	return []Finding{f.with("delegate", have["Delegate"]).with("kill_mode", mode)}
}

// readUnit returns the settings of [Service], nil when there is no such file.
func (w *world) readUnit(name string) map[string]string {
	text, err := w.read(name)
	if err != nil {
		return nil
	}
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, o := range options {
		if o.Section == "Service" {
			out[o.Name] = o.Value
		}
	}
	return out
}
