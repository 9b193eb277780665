// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"testing"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/config"
)

func specOf(json string) runtime.CreateOpts {
	return runtime.CreateOpts{Runtime: config.RuntimeType, Spec: &anypb.Any{Value: []byte(json)}}
}

// The node's driver is cgroupfs and no systemd is there: see newHarness.
func TestCountsMismatches(t *testing.T) {
	h := newHarness(t)
	ctx := namespaces.WithNamespace(t.Context(), "a")
	for _, spec := range []string{
		`{"linux":{"cgroupsPath":"/kubepods/pod1/c1"}}`,
		`{"linux":{}}`, `{}`, `[`, ``,
	} {
		_, _ = h.Create(ctx, "fits", specOf(spec))
	}
	_, _ = h.Create(ctx, "none", opts(config.RuntimeType))
	if n := h.shapes(t, "systemd", "cgroupfs"); n != 0 {
		t.Errorf("%v mismatches, want none", n)
	}
	_, _ = h.Create(ctx, "does not fit", specOf(`{"linux":{"cgroupsPath":"kubepods-podX.slice:cri-containerd:c1"}}`))
	if n := h.shapes(t, "systemd", "cgroupfs"); n != 1 {
		t.Errorf("%v mismatches, want 1", n)
	}
	h.node = nil
	_, _ = h.Create(ctx, "nobody decided", specOf(`{"linux":{"cgroupsPath":"kubepods-podX.slice:cri-containerd:c1"}}`))
	if n := h.shapes(t, "systemd", "cgroupfs"); n != 1 {
		t.Errorf("%v mismatches, want 1", n)
	}
}

// shapes is what a scrape would see of mismatches.
func (h *harness) shapes(t *testing.T, shape, used string) float64 {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "quoin_runtime_cgroup_mismatches_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["shape"] == shape && labels["used"] == used {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
