// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestForeignSystemd: what only looks like a systemd that could make scopes for
// us fools nobody: the driver is cgroupfs, and containers run.
func TestForeignSystemd(t *testing.T) {
	const booted = "mkdir -p /run/systemd/system /run/dbus\n"
	const named = "echo systemd >/proc/self/comm\n"
	for _, tc := range []struct {
		name, prepare string
		deaf          bool // a bus that takes connections and says nothing
		reason        string
		init          string // what the doctor says of process 1
	}{
		{name: "directory", prepare: booted, reason: `process 1 of this PID namespace is "sh"`, init: "process 1 is sh"},
		{name: "bus", prepare: booted, deaf: true, reason: `process 1 of this PID namespace is "sh"`, init: "process 1 is sh"},
		{name: "no-bus", prepare: booted + named, reason: "does not answer on D-Bus", init: "does not answer"},
		{name: "deaf-bus", prepare: booted + named, deaf: true, reason: "no answer within 2s", init: "does not answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := harness.Shared(t, harness.Spec{Name: "outer-fs", Kind: harness.KindQuoind})
			p := newPlace(t, "fs-"+tc.name, 0, "")
			if tc.deaf {
				bus := filepath.Join(p.run(), "bus")
				listen(t, bus)
				tc.prepare += "ln -s " + bus + " /run/dbus/system_bus_socket\n"
			}
			outer := d.Run(t, harness.ID(t), harness.Container{Args: p.Run(tc.prepare), Spec: p.Container()})
			i := p.Connect(t, int(outer.Task.Pid()))
			if e := i.Driver(t); e["driver"] != "cgroupfs" || !strings.Contains(e["reasons"], tc.reason) {
				t.Errorf("the plugin exports %v, want cgroupfs for the reason %q", e, tc.reason)
			}
			if got := i.CgroupDriver(t); got != cri.CgroupDriver_CGROUPFS {
				t.Errorf("RuntimeConfig says %v", got)
			}
			if f := i.Doctor(t)["host.init"]; f.Status != "warn" || !strings.Contains(f.Message, tc.init) {
				t.Errorf("the doctor's finding is %+v, want a warning with %q", f, tc.init)
			}
			i.Start(t, Bounds{Base: "/" + d.Namespace + "/" + outer.ID()}, "c1", "4321")
			i.Kill(t, "c1")
		})
	}
}

// listen takes connections and leaves them waiting.
func listen(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close() // with the listener, whose end ends the loop
		}
	}()
}
