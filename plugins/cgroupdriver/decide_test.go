// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// onSystemd is a node where nothing speaks against systemd.
func onSystemd() Facts {
	return Facts{
		Facts:    cgroup.Facts{Mode: cgroup.Unified, SystemdDir: true, InitComm: "systemd", Path: "/system.slice/quoind.service", Delegated: true, BootID: "b"},
		Answered: true, Unit: "quoind.service",
	}
}

func with(change func(*Facts)) Facts {
	f := onSystemd()
	change(&f)
	return f
}

var (
	systemdPods  = Pods{cgroup.Systemd, "/kubepods.slice"}
	cgroupfsPods = Pods{cgroup.Cgroupfs, "/kubepods"}
)

func TestDecide(t *testing.T) {
	bare := with(func(f *Facts) { *f = Facts{Facts: cgroup.Facts{Mode: cgroup.Unified, InitComm: "sh", Path: "/"}} })
	silent := with(func(f *Facts) { f.Answered, f.Unit, f.BusError = false, "", "no answer within 2s" })
	stranger := with(func(f *Facts) { f.Unit, f.BusError = "", "no unit for PID 7" })
	userns := with(func(f *Facts) { f.UserNamespace, f.InitComm = true, "sh" })
	for name, tc := range map[string]struct {
		setting Setting
		facts   Facts
		earlier *Decision
		want    cgroup.Driver
		wanted  cgroup.Driver
		reason  string
		warning string
		refused string
	}{
		"systemd":                 {facts: onSystemd(), want: cgroup.Systemd, reason: "quoind.service"},
		"no systemd":              {facts: bare, want: cgroup.Cgroupfs, reason: "not booted"},
		"manager does not answer": {facts: silent, want: cgroup.Cgroupfs, reason: "no answer within 2s", warning: "cgroupfs is used"},
		"unit not known":          {facts: stranger, want: cgroup.Cgroupfs, reason: "does not know the unit", warning: "cgroupfs is used"},
		"user namespace":          {facts: userns, want: cgroup.Cgroupfs, reason: `process 1 is "sh"`},
		"user namespace, not delegated": {
			facts: with(func(f *Facts) { f.UserNamespace, f.InitComm, f.Delegated = true, "sh", false }),
			want:  cgroup.Cgroupfs, warning: "not delegated",
		},
		"user namespace below another's systemd": {
			facts: with(func(f *Facts) { f.UserNamespace, f.InitForeign = true, true }), want: cgroup.Cgroupfs, reason: "not of it",
		},
		"user namespace without a cgroup namespace": {
			facts: with(func(f *Facts) { f.UserNamespace, f.InitComm, f.Barred = true, "sh", true }),
			want:  cgroup.Cgroupfs, warning: "unshare --cgroup",
		},
		"container with the host's directory": {
			facts: with(func(f *Facts) { f.InitComm = "quoind" }), want: cgroup.Cgroupfs, reason: "another's",
		},
		"read-only": {
			facts: with(func(f *Facts) {
				*f = Facts{Facts: cgroup.Facts{Mode: cgroup.Unified, InitComm: "sh", Path: "/", Barred: true}}
			}),
			want: cgroup.Cgroupfs, warning: "read-only",
		},
		"systemd as process 1 of a user namespace": {facts: with(func(f *Facts) { f.UserNamespace = true }), want: cgroup.Systemd},
		"hybrid": {facts: with(func(f *Facts) { f.Mode = cgroup.Hybrid }), want: cgroup.Systemd, warning: "cgroup v1 (hybrid)"},
		"v1":     {facts: with(func(f *Facts) { f.Mode, f.SystemdDir = cgroup.Legacy, false }), want: cgroup.Cgroupfs, warning: "cgroup v1 (legacy)"},

		"pods of cgroupfs on systemd": {facts: with(func(f *Facts) { f.Pods = []Pods{cgroupfsPods} }), want: cgroup.Cgroupfs, wanted: cgroup.Systemd, reason: "/kubepods,"},
		"pods of systemd, systemd silent": {
			facts: with(func(f *Facts) { f.Pods, f.Answered, f.BusError = []Pods{systemdPods}, false, "EOF" }),
			want:  cgroup.Systemd, wanted: cgroup.Cgroupfs, reason: "/kubepods.slice", warning: "EOF",
		},
		"pods of both": {
			facts: with(func(f *Facts) { f.Pods = []Pods{systemdPods, cgroupfsPods} }), want: cgroup.Systemd, warning: "drain the node",
		},
		"pods against the record": {
			facts:   with(func(f *Facts) { f.Pods = []Pods{cgroupfsPods} }),
			earlier: &Decision{Driver: cgroup.Systemd, Setting: Auto}, want: cgroup.Cgroupfs, wanted: cgroup.Systemd,
		},
		"pods that kept it before": {
			facts:   with(func(f *Facts) { f.Pods = []Pods{cgroupfsPods} }),
			earlier: &Decision{Driver: cgroup.Cgroupfs, Setting: Auto, Wanted: cgroup.Systemd}, want: cgroup.Cgroupfs, wanted: cgroup.Systemd,
		},
		"pods that kept it are gone": {
			facts: onSystemd(), earlier: &Decision{Driver: cgroup.Cgroupfs, Setting: Auto, Wanted: cgroup.Systemd}, want: cgroup.Systemd,
		},
		"pods as on the record": {
			facts:   with(func(f *Facts) { f.Pods = []Pods{cgroupfsPods} }),
			earlier: &Decision{Driver: cgroup.Cgroupfs, Setting: Auto}, want: cgroup.Cgroupfs, reason: "pods are running",
		},

		"kept for the boot": {
			facts: onSystemd(), earlier: &Decision{Driver: cgroup.Cgroupfs, Setting: Auto, Reasons: []string{"too early"}},
			want: cgroup.Cgroupfs, reason: "earlier in this boot",
		},
		"kept although systemd is silent": {
			facts: silent, earlier: &Decision{Driver: cgroup.Systemd, Setting: Auto}, want: cgroup.Systemd, warning: "but now",
		},
		"an explicit one is not kept": {
			facts: onSystemd(), earlier: &Decision{Driver: cgroup.Cgroupfs, Setting: "cgroupfs"}, want: cgroup.Systemd,
		},

		"explicit cgroupfs": {setting: "cgroupfs", facts: onSystemd(), want: cgroup.Cgroupfs, reason: `driver = "cgroupfs"`},
		"explicit systemd":  {setting: "systemd", facts: onSystemd(), want: cgroup.Systemd},
		"explicit waits for pods": {
			setting: "cgroupfs", facts: with(func(f *Facts) { f.Pods = []Pods{systemdPods} }), want: cgroup.Systemd, wanted: cgroup.Cgroupfs,
			reason: "without them it would be cgroupfs", warning: "systemd stays until they are gone: drain the node",
		},
		"explicit waits for pods of cgroupfs": {
			setting: "systemd", facts: with(func(f *Facts) { f.Pods = []Pods{cgroupfsPods} }), want: cgroup.Cgroupfs, wanted: cgroup.Systemd,
			warning: "/kubepods, which the cgroupfs driver made",
		},
		"explicit waits, systemd is silent": {
			setting: "cgroupfs", facts: with(func(f *Facts) { f.Pods, f.Answered, f.BusError = []Pods{systemdPods}, false, "EOF" }),
			want: cgroup.Systemd, wanted: cgroup.Cgroupfs, warning: "EOF",
		},
		"explicit, as the pods": {
			setting: "systemd", facts: with(func(f *Facts) { f.Pods = []Pods{systemdPods} }), want: cgroup.Systemd, reason: `driver = "systemd"`,
		},
		"explicit wins among pods of both": {
			setting: "cgroupfs", facts: with(func(f *Facts) { f.Pods = []Pods{systemdPods, cgroupfsPods} }), want: cgroup.Cgroupfs, warning: "/kubepods.slice",
		},
		"explicit, impossible, with pods": {
			setting: "systemd", facts: with(func(f *Facts) { f.SystemdDir, f.Pods = false, []Pods{cgroupfsPods} }), refused: "/run/systemd/system",
		},
		"explicit wins over the record": {
			setting: "cgroupfs", facts: onSystemd(), earlier: &Decision{Driver: cgroup.Systemd, Setting: Auto}, want: cgroup.Cgroupfs,
		},
		"explicit systemd, unit unknown":       {setting: "systemd", facts: stranger, want: cgroup.Systemd, warning: "does not know the unit"},
		"explicit systemd without systemd":     {setting: "systemd", facts: bare, refused: "/run/systemd/system"},
		"explicit systemd, no answer":          {setting: "systemd", facts: silent, refused: "no answer within 2s"},
		"explicit systemd in a user namespace": {setting: "systemd", facts: userns, refused: "process 1"},
		"explicit systemd in a container with the host's directory": {
			setting: "systemd", facts: with(func(f *Facts) { f.InitComm = "quoind" }), refused: "another's",
		},
		"explicit cgroupfs without a cgroup namespace": {
			setting: "cgroupfs", facts: with(func(f *Facts) { f.UserNamespace, f.Barred = true, true }), refused: "unshare --cgroup",
		},
		"explicit cgroupfs, nothing mounted": {
			setting: "cgroupfs", facts: with(func(f *Facts) { f.Mode = cgroup.Unavailable }), refused: "no cgroup file system",
		},
		"explicit cgroupfs, not delegated": {
			setting: "cgroupfs", facts: with(func(f *Facts) { f.UserNamespace, f.Delegated = true, false }), refused: "Delegate=yes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.setting == "" {
				tc.setting = Auto
			}
			d, err := decide(tc.setting, tc.facts, tc.earlier)
			if tc.refused != "" {
				if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("got %+v, %v; want a refusal that says %q", d, err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.Driver != tc.want || d.Wanted != tc.wanted || d.Setting != tc.setting || len(d.Reasons) == 0 {
				t.Errorf("got %+v, want %s", d, tc.want)
			}
			if !strings.Contains(d.Reasons[0], tc.reason) {
				t.Errorf("the reason is %q, want %q in it", d.Reasons[0], tc.reason)
			}
			warnings := strings.Join(d.Warnings, "; ")
			if (tc.warning == "") != (warnings == "") || !strings.Contains(warnings, tc.warning) {
				t.Errorf("warnings %q, want %q in them", warnings, tc.warning)
			}
		})
	}
	if _, err := decide("Systemd", onSystemd(), nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an unknown setting: %v", err)
	}
}

func TestMatchUnit(t *testing.T) {
	for _, tc := range []struct {
		unit, path string
		known      bool
	}{
		{"quoind.service", "/system.slice/quoind.service", true},
		{"quoind.service", "/system.slice/quoind.service/daemon", true},
		{"quoind.service", "/", false}, // a cgroup namespace, and a manager outside
		{"quoind.service", "/docker/abc", false},
		{"other.service", "/system.slice/quoind.service", false},
	} {
		unit, problem := matchUnit(tc.unit, tc.path)
		if (unit == tc.unit) != tc.known || (problem == "") != tc.known {
			t.Errorf("%s in %s: %q, %q", tc.unit, tc.path, unit, problem)
		}
	}
}
