// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"slices"
	"strings"
	"testing"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
)

func TestChooseHome(t *testing.T) {
	const podPath = "kubepods-besteffort-podX.slice:cri-containerd:c1"
	for name, tc := range map[string]struct {
		driver, slice, shimCgroup, cgroupsPath string
		want                                   string
	}{
		"systemd by default":            {driver: "systemd", cgroupsPath: podPath, want: sliceEnv + "=system.slice " + followEnv + "=1"},
		"a configured slice":            {driver: "systemd", slice: "shims.slice", want: sliceEnv + "=shims.slice"},
		"the pod's slice":               {driver: "systemd", slice: "pod", cgroupsPath: podPath, want: sliceEnv + "=kubepods-besteffort-podX.slice " + followEnv + "=1"},
		"the slice of no pod":           {driver: "systemd", slice: "pod", cgroupsPath: "/k8s.io/c1", want: sliceEnv + "=system.slice"},
		"a pod without a slice":         {driver: "systemd", slice: "pod", cgroupsPath: ":cri-containerd:c1", want: sliceEnv + "=system.slice " + followEnv + "=1"},
		"ShimCgroup names a slice":      {driver: "systemd", slice: "shims.slice", shimCgroup: "/a.slice/a-b.slice", want: sliceEnv + "=a-b.slice"},
		"ShimCgroup is joined by start": {driver: "systemd", shimCgroup: "/shims"},
		"ShimCgroup without systemd":    {driver: "cgroupfs", shimCgroup: "/shims"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(cgroup.DriverEnv, tc.driver)
			t.Setenv(sliceEnv, tc.slice)
			got := strings.Join(chooseHome(bundle.Options{ShimCgroup: tc.shimCgroup}, bundle.Facets{CgroupsPath: tc.cgroupsPath}), " ")
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// Under cgroupfs the shims' cgroup stands beside the daemon's, never in or above
// it.
func TestChooseHomeBesideTheDaemon(t *testing.T) {
	t.Setenv(cgroup.DriverEnv, "cgroupfs")
	own, err := cgroup.Own()
	if err != nil {
		t.Fatal(err)
	}
	got := chooseHome(bundle.Options{}, bundle.Facets{})
	if own == "/" {
		if got != nil {
			t.Fatalf("in the root cgroup: %q, want nothing", got)
		}
		return
	}
	if want := []string{cgroupEnv + "=" + own + "-shims"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}
