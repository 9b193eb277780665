// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"strings"
	"time"

	"github.com/containerd/log"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// roomDeadline bounds the moving of processes: each is one write.
const roomDeadline = 5 * time.Second

// Leaf is where the processes of a cgroup namespace's root go.
const Leaf = cgroup.Leaf

// makeRoom has the processes leave the root of a cgroup namespace (see
// cgroup.LeaveTop), where containers are placed by cgroupfs. Where a systemd runs,
// the root is that one's to keep, whatever the driver. What does not work is a
// warning, since containers without limits still run. facts are brought up to
// date.
func makeRoom(ctx context.Context, root string, facts *Facts, d *Decision) {
	ofSystemd := facts.SystemdRuns() && facts.Answered
	if d.Driver != cgroup.Cgroupfs || !facts.Nested || facts.Barred || ofSystemd {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, roomDeadline)
	defer cancel()
	v, err := cgroup.LeaveTop(ctx, root)
	if err != nil {
		d.warn("%v", err)
	}
	if v.Moved == 0 {
		return
	}
	log.G(ctx).WithField("processes", v.Moved).WithField("controllers", strings.Join(v.Controllers, ",")).
		Infof("moved what was in the root of the cgroup namespace to %s, so that cgroup v2 gives containers their controllers", Leaf)
	if now, err := cgroup.Probe(root); err == nil {
		facts.Facts = now
	}
}
