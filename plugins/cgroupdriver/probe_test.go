// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quoin-io/quoin/shim/cgroup"
)

var systemdHost = map[string]string{
	"proc/self/mountinfo":            "24 23 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
	"proc/self/cgroup":               "0::/system.slice/quoind.service\n",
	"proc/self/uid_map":              "0 0 4294967295\n",
	"proc/1/comm":                    "systemd\n",
	"proc/sys/kernel/random/boot_id": "boot-1\n",
	"run/systemd/system/":            "",
	"sys/fs/cgroup/system.slice/quoind.service/cgroup.procs":       "1\n",
	"sys/fs/cgroup/system.slice/quoind.service/cgroup.controllers": "cpu memory\n",
}

// host makes a root directory; a value "-" leaves a file of systemdHost out.
func host(t *testing.T, change map[string]string) string {
	t.Helper()
	files := maps.Clone(systemdHost)
	maps.Copy(files, change)
	root := t.TempDir()
	for name, data := range files {
		full := filepath.Join(root, name)
		if data == "-" {
			continue
		}
		dir := filepath.Dir(full)
		if strings.HasSuffix(name, "/") {
			dir = full
		}
		must(t, os.MkdirAll(dir, 0o755))
		if dir != full {
			must(t, os.WriteFile(full, []byte(data), 0o644))
		}
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func answers(unit string, err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return unit, err }
}

func TestProbe(t *testing.T) {
	f, err := prober{host(t, nil), answers("quoind.service", nil)}.probe(t.Context())
	must(t, err)
	want := Facts{
		Facts: cgroup.Facts{Mode: cgroup.Unified, Controllers: []string{"cpu", "memory"}, SystemdDir: true, InitComm: "systemd",
			Path: "/system.slice/quoind.service", Delegated: true, BootID: "boot-1"},
		Answered: true, Unit: "quoind.service",
	}
	if d := cmp.Diff(want, f); d != "" {
		t.Error(d)
	}
}

func TestProbeManagerErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		ask      func(context.Context) (string, error)
		answered bool
		problem  string
	}{
		"refused": {answers("", errors.New("connection refused")), false, "connection refused"},
		"no unit": {answers("", &unitUnknownError{errors.New("PID 7 is in no unit")}), true, "in no unit"},
		"other":   {answers("ssh.service", nil), true, "ssh.service"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := prober{host(t, nil), tc.ask}.probe(t.Context())
			must(t, err)
			if f.Answered != tc.answered || f.Unit != "" || !strings.Contains(f.BusError, tc.problem) {
				t.Errorf("%+v", f)
			}
		})
	}
	// Nobody is asked when systemd is not there.
	f, err := prober{host(t, map[string]string{"run/systemd/system/": "-"}), func(context.Context) (string, error) {
		t.Error("asked")
		return "", nil
	}}.probe(t.Context())
	if err != nil || f.Answered {
		t.Errorf("%+v, %v", f, err)
	}
}

// A manager that never answers costs the deadline, however deaf the library is.
func TestProbeDeafManager(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	f, err := prober{host(t, nil), func(context.Context) (string, error) { <-release; return "late", nil }}.probe(ctx)
	must(t, err)
	if f.Answered || f.BusError == "" {
		t.Errorf("%+v", f)
	}
}

func TestProbePods(t *testing.T) {
	const unified = "sys/fs/cgroup/"
	populated := map[string]string{"": "populated 0\nfrozen 0\n", "x": "populated 1\nfrozen 0\n"}
	for name, tc := range map[string]struct {
		files map[string]string
		want  []Pods
	}{
		"none":    {nil, nil},
		"empty":   {map[string]string{unified + "kubepods/cgroup.events": populated[""]}, nil},
		"systemd": {map[string]string{unified + "kubepods.slice/cgroup.events": populated["x"]}, []Pods{systemdPods}},
		"kind": {
			map[string]string{unified + "kubelet.slice/kubelet-kubepods.slice/cgroup.events": populated["x"]},
			[]Pods{{cgroup.Systemd, "/kubelet.slice/kubelet-kubepods.slice"}},
		},
		"both": {map[string]string{
			unified + "kubepods.slice/cgroup.events": populated["x"], unified + "kubepods/cgroup.events": populated["x"],
		}, []Pods{systemdPods, cgroupfsPods}},
		"v1": {map[string]string{
			"proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"proc/self/cgroup":    "4:memory:/system.slice/quoind.service\n",
			unified + "memory/kubepods/burstable/pod1/c/cgroup.procs":                "77\n",
			unified + "memory/kubepods/cgroup.procs":                                 "",
			unified + "memory/kubepods/burstable/cgroup.procs":                       "",
			unified + "memory/kubepods/burstable/pod1/cgroup.procs":                  "",
			unified + "memory/kubepods.slice/kubepods-besteffort.slice/cgroup.procs": "",
			unified + "memory/kubepods.slice/cgroup.procs":                           "",
		}, []Pods{cgroupfsPods}},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := prober{host(t, tc.files), answers("quoind.service", nil)}.probe(t.Context())
			must(t, err)
			if d := cmp.Diff(tc.want, f.Pods); d != "" {
				t.Error(d)
			}
		})
	}
}
