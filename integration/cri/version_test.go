// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

func node(t *testing.T) *harness.Node {
	t.Helper()
	return harness.SharedNode(t, harness.Spec{Kind: harness.KindQuoind})
}

func TestVersion(t *testing.T) {
	v, err := node(t).Version(t.Context(), &cri.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if v.RuntimeName != "containerd" || v.RuntimeApiVersion != "v1" || v.RuntimeVersion == "" {
		t.Errorf("version %v", v)
	}
}

func TestStatus(t *testing.T) {
	n := node(t)
	s, err := n.Status(t.Context(), &cri.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, condition := range s.Status.Conditions {
		if (condition.Type == "RuntimeReady" || condition.Type == "NetworkReady") && !condition.Status {
			t.Errorf("condition %v", condition)
		}
	}
	if harness.Reference() {
		return
	}
	// The empty name stands for the default handler.
	i := slices.IndexFunc(s.RuntimeHandlers, func(h *cri.RuntimeHandler) bool { return h.Name == "quoin" })
	if i < 0 {
		t.Fatalf("no handler quoin among %v", s.RuntimeHandlers)
	}
	// The shim's -info names the runtime's features; runc 1.5.0 has this one.
	if f := s.RuntimeHandlers[i].Features; f == nil || !f.RecursiveReadOnlyMounts {
		t.Errorf("features of the handler quoin: %v; the runtime mounts recursively read-only", f)
	}
}

// TestRuntimeConfig: without systemd the driver is cgroupfs, and kubelet is
// told so.
func TestRuntimeConfig(t *testing.T) {
	c, err := node(t).RuntimeConfig(t.Context(), &cri.RuntimeConfigRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Linux.GetCgroupDriver() != cri.CgroupDriver_CGROUPFS {
		t.Errorf("driver %v on a machine without systemd", c.Linux.GetCgroupDriver())
	}
}
