// SPDX-License-Identifier: Apache-2.0

package harness

import "testing"

// Both are the daemons that a drop-in shim must work with. Under
// QUOIN_REFERENCE there is only one.
func Both() []Spec {
	specs := []Spec{{Kind: KindQuoind}}
	if !Reference() {
		specs = append(specs, Spec{Kind: KindStock})
	}
	return specs
}

// OnBoth runs a test with a quoind and with a stock containerd that no other
// test uses, at once. name is short: it becomes part of socket paths.
func OnBoth(t *testing.T, name string, test func(*testing.T, *Daemon)) {
	ForBoth(t, name, func(t *testing.T, spec Spec) { test(t, Start(t, spec)) })
}

// ForBoth is OnBoth for a test that starts the daemon itself.
func ForBoth(t *testing.T, name string, test func(*testing.T, Spec)) {
	t.Parallel()
	for _, spec := range Both() {
		t.Run(string(spec.Kind), func(t *testing.T) {
			t.Parallel()
			spec.Name = name + "-" + string(spec.Kind)
			test(t, spec)
		})
	}
}
