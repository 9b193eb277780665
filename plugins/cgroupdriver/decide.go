// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// Setting is the driver key of the plugin's configuration table.
type Setting string

// Auto leaves the decision to the rules; "systemd" and "cgroupfs" make it.
const Auto Setting = "auto"

// Decision is the node's cgroup driver and how it came about.
type Decision struct {
	// Driver is cgroup.Systemd or cgroup.Cgroupfs.
	Driver cgroup.Driver `json:"driver"`
	// Setting is what the configuration asked for.
	Setting Setting `json:"setting"`
	// Wanted is the driver that running pods keep from being taken; empty when
	// there is none such. A decision that has one lasts as long as those pods.
	Wanted cgroup.Driver `json:"wanted,omitempty"`
	// Reasons say what decided, the decisive one first.
	Reasons []string `json:"reasons"`
	// Warnings say what somebody should put right.
	Warnings []string `json:"-"`
	// SystemdDir says that /run/systemd/system is a directory: what CRI goes
	// by when its configuration does not tell the driver.
	SystemdDir bool `json:"-"`
}

func (d *Decision) settle(driver cgroup.Driver, reason string, args ...any) Decision {
	d.Driver = driver
	d.Reasons = append([]string{fmt.Sprintf(reason, args...)}, d.Reasons...)
	return *d
}

func (d *Decision) warn(format string, args ...any) {
	d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
}

// decide applies the rules, the first that fits:
//
//  1. a setting that cannot work, or is none: an error that says why, of class
//     ErrFailedPrecondition or ErrInvalidArgument,
//  2. the driver of the pods that are running, whatever is set: it never flips
//     under them. Where pods of both drivers run, there is none to keep,
//  3. an explicit setting,
//  4. what was decided earlier in this boot: kubelet asks only once,
//  5. systemd, if it is booted, its manager answers in time and knows the unit
//     that we run in, and, in a user namespace, if it is process 1 there,
//  6. cgroupfs.
//
// Cgroup v1, alone or as hybrid, makes no difference but a warning. earlier is
// nil when nothing is on record for this boot.
func decide(setting Setting, f Facts, earlier *Decision) (Decision, error) {
	d := Decision{Setting: setting, SystemdDir: f.SystemdDir}
	if w := VersionWarning(f.Mode); w != "" {
		d.warn("%s", w)
	}
	noSystemd := systemdObstacle(f)
	switch setting {
	case Setting(cgroup.Systemd), Setting(cgroup.Cgroupfs):
		return decideExplicit(d, cgroup.Driver(setting), f, noSystemd)
	case Auto, "":
		d.Setting = Auto
	default:
		return Decision{}, fmt.Errorf("cgroup driver %q: write %q, %q or %q: %w", setting, Auto, cgroup.Systemd, cgroup.Cgroupfs, errdefs.ErrInvalidArgument)
	}
	if pods := f.runningPods(); pods != cgroup.Unset {
		free := decideFreely(Decision{}, f, noSystemd, earlier).Driver
		return d.keep(pods, free, f, noSystemd), nil
	}
	if len(f.Pods) > 1 {
		d.warn("pods run both below %s and below %s: drain the node, so that one driver makes all cgroups", f.Pods[0].Path, f.Pods[1].Path)
	}
	return decideFreely(d, f, noSystemd, earlier), nil
}

// decideFreely is for the setting auto where no pods are in the way.
func decideFreely(d Decision, f Facts, noSystemd string, earlier *Decision) Decision {
	if earlier != nil && earlier.Setting == Auto && earlier.Wanted == cgroup.Unset {
		if earlier.Driver == cgroup.Systemd && noSystemd != "" {
			d.warn("systemd was decided on earlier in this boot, but now %s", noSystemd)
		}
		d.Reasons = earlier.Reasons
		return d.settle(earlier.Driver, "it was decided on earlier in this boot, and kubelet asks only when it starts")
	}
	if noSystemd == "" {
		return d.settle(cgroup.Systemd, "systemd answers on D-Bus and runs this daemon as %s", f.Unit)
	}
	if obstacle := cgroupfsObstacle(f); obstacle != "" {
		d.warn("%s", obstacle)
	}
	if f.SystemdRuns() {
		d.warn("systemd is booted, but cgroupfs is used: %s", noSystemd)
	}
	return d.settle(cgroup.Cgroupfs, "%s", noSystemd)
}

// keep stays with the driver of the pods that are running; wanted is the one that
// would be taken without them.
func (d *Decision) keep(pods, wanted cgroup.Driver, f Facts, noSystemd string) Decision {
	if pods == cgroup.Systemd && noSystemd != "" {
		d.warn("pods run in the cgroups of the systemd driver, but %s", noSystemd)
	}
	if wanted == pods {
		return d.settle(pods, "pods are running in %s, and the driver does not change under them", f.podsPath(pods))
	}
	d.Wanted = wanted
	if d.Setting != Auto {
		d.warn("driver = %q is set, but pods are running in %s, which the %s driver made, so %s stays until they are gone: drain the node, then restart quoind and the kubelet",
			d.Setting, f.podsPath(pods), pods, pods)
	}
	return d.settle(pods, "pods are running in %s, and the driver does not change under them; without them it would be %s", f.podsPath(pods), wanted)
}

func decideExplicit(d Decision, driver cgroup.Driver, f Facts, noSystemd string) (Decision, error) {
	switch {
	case f.Mode == cgroup.Unavailable:
		return Decision{}, fmt.Errorf("cgroup driver %q cannot work: no cgroup file system is mounted on /sys/fs/cgroup: %w", driver, errdefs.ErrFailedPrecondition)
	case driver == cgroup.Systemd && (!f.SystemdRuns() || !f.Answered):
		return Decision{}, fmt.Errorf("cgroup driver %q cannot work: %s; write driver = %q or %q: %w", driver, noSystemd, Auto, cgroup.Cgroupfs, errdefs.ErrFailedPrecondition)
	case driver == cgroup.Cgroupfs && f.UserNamespace && cgroupfsObstacle(f) != "":
		return Decision{}, fmt.Errorf("cgroup driver %q cannot work: %s: %w", driver, cgroupfsObstacle(f), errdefs.ErrFailedPrecondition)
	case driver == cgroup.Systemd && noSystemd != "":
		d.warn("%s", noSystemd)
	}
	if pods := f.runningPods(); pods != cgroup.Unset && pods != driver {
		return d.keep(pods, driver, f, noSystemd), nil
	}
	for _, p := range f.Pods {
		if p.Driver != driver {
			d.warn("driver = %q is set, but pods of both drivers are running, and those in %s are of the %s driver: drain the node", driver, p.Path, p.Driver)
		}
	}
	return d.settle(driver, "the configuration says driver = %q", driver), nil
}
