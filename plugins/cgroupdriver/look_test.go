// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// Somebody else sees what the daemon would decide, its record included.
func TestPredict(t *testing.T) {
	root, state := host(t, nil), t.TempDir()
	f, err := Look(t.Context(), root, answers("quoind.service", nil))
	must(t, err)
	d, err := Predict(Auto, f, state)
	if err != nil || d.Driver != cgroup.Systemd {
		t.Errorf("%+v, %v", d, err)
	}
	must(t, saveRecord(filepath.Join(state, StateDir), f.BootID, Decision{Driver: cgroup.Cgroupfs, Setting: Auto}))
	if d, err := Predict(Auto, f, state); err != nil || d.Driver != cgroup.Cgroupfs || len(d.Warnings) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	must(t, os.WriteFile(filepath.Join(state, StateDir, recordName), []byte("{"), 0o600))
	if d, err := Predict(Auto, f, state); err != nil || d.Driver != cgroup.Systemd || !strings.Contains(strings.Join(d.Warnings, ""), "earlier") {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := Predict("both", f, state); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if _, err := Look(t.Context(), t.TempDir(), answers("", nil)); err == nil {
		t.Error("no error on a host without /proc")
	}
}

func TestShimDriver(t *testing.T) {
	if got := onSystemd().ShimDriver(); got != cgroup.Systemd {
		t.Error(got)
	}
	if got := with(func(f *Facts) { f.SystemdDir = false }).ShimDriver(); got != cgroup.Cgroupfs {
		t.Error(got)
	}
}

func TestDisagreement(t *testing.T) {
	bare := with(func(f *Facts) { f.SystemdDir = false })
	for _, tc := range []struct {
		facts        Facts
		path, driver string
		shape        cgroup.Driver // of a disagreement; "" for none
	}{
		{onSystemd(), "a.slice:b:c", "systemd", ""},
		{onSystemd(), "/k8s.io/c", "systemd", ""},
		{onSystemd(), "", "systemd", ""},
		{onSystemd(), "/default/c", "systemd", cgroup.Cgroupfs},
		{onSystemd(), "a.slice:b:c", "cgroupfs", cgroup.Systemd},
		{bare, "/default/c", "cgroupfs", ""},
		{bare, "/kubepods/pod1/c", "cgroupfs", ""},
		{bare, "a.slice:b:c", "cgroupfs", cgroup.Systemd},
		{bare, "/a.slice/b-c.scope", "cgroupfs", cgroup.Systemd},
		{bare, "x.slice", "cgroupfs", ""},
	} {
		d, err := tc.facts.Disagreement(tc.path, tc.driver)
		var shape cgroup.Driver
		if d != nil {
			shape = d.Shape
		}
		if err != nil || shape != tc.shape {
			t.Errorf("%q on %s: %v, %v", tc.path, tc.driver, d, err)
		}
	}
	if _, err := bare.Disagreement("a:b:c", "cgroupfs"); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
