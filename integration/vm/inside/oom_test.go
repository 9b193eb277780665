// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// oomKills says how many kills each driver has to report in a bed: 300 by
// systemd, which removes the cgroup with the last process. As many by cgroupfs
// are counted natively (integration/cri), where they cost a tenth.
func oomKills(driver string) int {
	switch {
	case bed == "v2" && driver == "systemd":
		return 300
	case bed == "bare":
		return 60
	}
	return 30
}

// TestOOM: a container that the kernel kills for want of memory at once is
// reported as such, through CRI and as an event, each time: also where systemd
// removes the cgroup together with the last process.
func TestOOM(t *testing.T) {
	parents := map[string]string{"cgroupfs": "/kubepods/burstable/podoom"}
	if onSystemd() {
		parents["systemd"] = "kubepods-burstable-podoom.slice"
	}
	for driver, parent := range parents {
		t.Run(driver, func(t *testing.T) {
			logOnFailure(t)
			p := runPod(t, "oom-"+driver, parent)
			kills := &harness.OOMKills{
				CRI:      runtime,
				Request:  func(name string) *cri.CreateContainerRequest { return p.request(name, nil) },
				Patience: patience,
			}
			kills.Run(t, client, oomKills(driver))
		})
	}
}
