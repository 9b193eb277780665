// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"time"
)

// oomNotices are what the eventfd of a v1 memory cgroup was signalled for: each
// time that memory ran out, before anything was killed, and once more some time
// after the cgroup was removed. They are all that is left of a kill whose cgroup
// systemd has removed with its last process: a process that was killed, and not
// by us, after memory had run out, is taken for the victim.
type oomNotices struct {
	signals uint64
	// early says that there was one while the cgroup was there.
	early bool
}

// there is called when the cgroup was found after the signals were read.
func (n *oomNotices) there() { n.early = n.early || n.signals > 0 }

// ranOut says whether memory ran out in a cgroup that is gone; it is not sure
// while the one signal may be that of the removal.
func (n *oomNotices) ranOut() (ran, sure bool) {
	ran = n.early || n.signals > 1
	return ran, ran || n.signals == 0
}

// removalPatience is how long the signal of a removal may take: the kernel sends it
// when nobody uses the cgroup any more.
const removalPatience = 500 * time.Millisecond

// ranOut reports a kill in a v1 cgroup that is gone. It waits up to
// removalPatience, and only where the notices leave a doubt.
func (o *oomWatch) ranOut(onKill func(id string)) bool {
	ctx, cancel := context.WithTimeout(context.Background(), removalPatience)
	defer cancel()
	b, over := backoff{}, error(nil)
	for {
		ran, sure := o.noticed()
		switch {
		case ran:
			return o.report(onKill)
		case sure || over != nil:
			return false
		}
		over = b.wait(ctx)
	}
}

// noticed reads the signals up to now.
func (o *oomWatch) noticed() (ran, sure bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	control, ok := o.source.(*oomControl)
	if !ok || o.closed {
		return false, true
	}
	control.kills()
	return control.notices.ranOut()
}
