// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"sync"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// oomWatch starts the watcher of OOM kills with the first container, and is
// quiet where there is nothing to watch.
type oomWatch struct {
	onKill func(id string)

	mu sync.Mutex
	w  *cgroup.OOMWatcher // guarded by mu
}

func (o *oomWatch) Add(id string, c *cgroup.Cgroup) error {
	w, err := o.watcher()
	if err != nil {
		return err
	}
	return w.Add(id, c)
}

func (o *oomWatch) watcher() (*cgroup.OOMWatcher, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.w == nil {
		w, err := cgroup.NewOOMWatcher(o.onKill)
		if err != nil {
			return nil, err
		}
		o.w = w
	}
	return o.w, nil
}

func (o *oomWatch) current() *cgroup.OOMWatcher {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w
}

func (o *oomWatch) Check(id string) bool {
	w := o.current()
	return w != nil && w.Check(id)
}

func (o *oomWatch) Ended(id string) bool {
	w := o.current()
	return w != nil && w.Ended(id)
}

func (o *oomWatch) State(id string) (cgroup.OOMState, bool) {
	if w := o.current(); w != nil {
		return w.State(id)
	}
	return cgroup.OOMState{}, false
}

func (o *oomWatch) Resume(id string, c *cgroup.Cgroup, s cgroup.OOMState) error {
	w, err := o.watcher()
	if err != nil {
		return err
	}
	return w.Resume(id, c, s)
}

func (o *oomWatch) Remove(id string) {
	if w := o.current(); w != nil {
		w.Remove(id)
	}
}

func (o *oomWatch) close() {
	if w := o.current(); w != nil {
		w.Close()
	}
}
