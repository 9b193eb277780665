// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// TestDecision: the node's driver is the bed's, and the kubelet is told so.
func TestDecision(t *testing.T) {
	logOnFailure(t)
	want := map[string]struct {
		driver cgroup.Driver
		mode   string
		told   cri.CgroupDriver
	}{
		"v2":       {cgroup.Systemd, "unified", cri.CgroupDriver_SYSTEMD},
		"troubles": {cgroup.Systemd, "unified", cri.CgroupDriver_SYSTEMD},
		"hybrid":   {cgroup.Systemd, "hybrid", cri.CgroupDriver_SYSTEMD},
		"bare":     {cgroup.Cgroupfs, "unified", cri.CgroupDriver_CGROUPFS},
	}[bed]
	plugins, err := client.IntrospectionService().Plugins(inNamespace(t), `type==io.quoin.node.v1,id==cgroupdriver`)
	if err != nil || len(plugins.Plugins) != 1 {
		t.Fatalf("the plugin: %v, %v", plugins, err)
	}
	exports := plugins.Plugins[0].Exports
	if exports["driver"] != string(want.driver) || exports["mode"] != want.mode {
		t.Errorf("the plugin exports %v, want the driver %s in the mode %s", exports, want.driver, want.mode)
	}
	answer, err := runtime.RuntimeConfig(t.Context(), &cri.RuntimeConfigRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetLinux().GetCgroupDriver(); got != want.told {
		t.Errorf("RuntimeConfig says %v, want %v", got, want.told)
	}
}
