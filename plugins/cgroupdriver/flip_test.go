// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"path/filepath"
	"testing"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// A driver that is set waits until the pods of the other one are gone, over
// restarts; what was kept for them is not kept for the boot.
func TestPluginWaitsForPods(t *testing.T) {
	populated := map[string]string{"sys/fs/cgroup/kubepods.slice/cgroup.events": "populated 1\nfrozen 0\n"}
	busy, idle := host(t, populated), host(t, nil)
	state := filepath.Join(t.TempDir(), "state")
	for i, step := range []struct {
		root         string
		setting      Setting
		want, wanted cgroup.Driver
	}{
		{idle, Auto, cgroup.Systemd, cgroup.Unset},
		{busy, "cgroupfs", cgroup.Systemd, cgroup.Cgroupfs},
		{busy, "cgroupfs", cgroup.Systemd, cgroup.Cgroupfs},
		{idle, "cgroupfs", cgroup.Cgroupfs, cgroup.Unset},
	} {
		d, ic, _, err := load(t, prober{step.root, answers("quoind.service", nil)}, &Config{Driver: step.setting}, state)
		must(t, err)
		if got := d.Decision(); got.Driver != step.want || got.Wanted != step.wanted || d.Node().Driver != step.want {
			t.Errorf("step %d: %+v, want %s and then %q", i, got, step.want, step.wanted)
		}
		if got := ic.Meta.Exports["wanted"]; got != string(step.wanted) {
			t.Errorf("step %d: exports wanted = %q", i, got)
		}
		must(t, d.Close())
	}
}
