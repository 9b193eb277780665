// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"cmp"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// oomKills says how many kills each driver has to report in a bed, by all OCI
// runtimes in equal parts: 300 by systemd, which removes the cgroup with the last
// process. As many by cgroupfs are counted natively (integration/cri), where they
// cost a tenth.
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
		for _, binary := range binaries() {
			t.Run(driver+"/"+cmp.Or(binary, "runc"), func(t *testing.T) {
				logOnFailure(t)
				p := runPodBy(t, binary, "oom-"+driver, parent) // the handler has the binary's name
				kills := &harness.OOMKills{
					CRI:      runtime,
					Request:  func(name string) *cri.CreateContainerRequest { return p.request(name, nil) },
					Patience: patience,
				}
				kills.Run(t, client, oomKills(driver)/len(binaries()))
			})
		}
	}
}
