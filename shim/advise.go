// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"sync"

	"github.com/containerd/log"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/oci"
)

// advisor warns, once in the life of a shim for each OCI runtime, of one with known
// ways out of its containers. It is no reason to refuse: a distribution may have
// fixed an old release.
type advisor struct {
	patience config.Deadlines
	mu       sync.Mutex
	asked    map[string]bool // guarded by mu, by name
}

// used is told of a runtime that has made a container. It does not block.
func (a *advisor) used(r *oci.Runtime) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked[r.Name()] {
		return
	}
	if a.asked == nil {
		a.asked = make(map[string]bool)
	}
	a.asked[r.Name()] = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.patience.Control)
		defer cancel()
		v, err := r.KnownVersion(ctx)
		if err != nil {
			log.L.WithError(err).Debug("the OCI runtime does not tell its version")
			return
		}
		if why := v.SecurityWarning(); why != "" {
			log.L.WithField("runtime", r.Name()).Warn(why)
		}
	}()
}
