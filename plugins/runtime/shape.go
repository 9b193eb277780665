// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"encoding/json"

	"github.com/containerd/typeurl/v2"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// mismatch tells how the cgroupsPath of a task's spec disagrees with the node's
// driver, nil if it does not or if there is nothing to tell: a spec that cannot be
// read is the inner runtime's to refuse.
func mismatch(spec typeurl.Any, node cgroup.Node) *cgroup.Disagreement {
	if spec == nil {
		return nil
	}
	var s struct {
		Linux struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(spec.GetValue(), &s); err != nil {
		return nil
	}
	p, err := cgroup.Translate(s.Linux.CgroupsPath, node)
	if err != nil {
		return nil
	}
	return p.Disagreement
}
