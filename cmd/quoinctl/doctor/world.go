// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"path/filepath"
	"strings"
	"sync"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/plugins/cgroupdriver"
)

// world is what several checks look at. It does not change once gathered.
type world struct {
	*host
	settings settings
	// place is where the daemon keeps its files: as it says, else as
	// configured.
	place    config.Daemon
	daemon   *daemon
	node     node
	kubelets []kubelet
}

// node is the decision on the cgroup driver and what it rests on.
type node struct {
	facts cgroupdriver.Facts
	// factsErr says why there are no facts.
	factsErr error
	// driver is "systemd", "cgroupfs", or "" where nothing could be decided.
	driver   string
	reasons  string
	warnings string
	// decideErr says why nothing could be decided.
	decideErr error
	// source says who decided.
	source source
}

// source says where a decision comes from.
type source int

const (
	byQuoind source = iota // the running quoind, by its exports
	byShim                 // a stock containerd answers: shims decide for themselves
	onTheSpot
)

func gather(ctx context.Context, h *host) *world {
	ctx, cancel := context.WithTimeout(ctx, h.deadlines.gather)
	defer cancel()
	w := &world{host: h, settings: readSettings(h)}
	w.place = w.settings.place
	if h.address != "" {
		w.place.Address = h.address
		w.place.State = filepath.Dir(h.address)
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.daemon = askDaemon(ctx, h, w.place.Address) })
	wg.Go(func() {
		w.node.facts, w.node.factsErr = bounded(ctx, "reading /proc and /sys/fs/cgroup", func() (cgroupdriver.Facts, error) {
			facts, err := cgroupdriver.Look(ctx, h.root, h.askUnit)
			return facts, h.rootless(err)
		})
	})
	wg.Go(func() {
		w.kubelets, _ = bounded(ctx, "reading /proc", func() ([]kubelet, error) { return findKubelets(ctx, h), nil })
	})
	wg.Wait()
	override(&w.place.Root, w.daemon.root)
	override(&w.place.State, w.daemon.state)
	w.decide()
	return w
}

func (w *world) close() { w.daemon.close() }

// decide asks the daemon's exports, else the rules.
func (w *world) decide() {
	n := &w.node
	if e := w.daemon.driver; e != nil {
		n.source, n.driver, n.reasons, n.warnings = byQuoind, e["driver"], e["reasons"], e["warnings"]
	} else if n.factsErr != nil {
		n.source, n.decideErr = onTheSpot, n.factsErr
	} else if w.daemon.reach == answers {
		n.source, n.driver = byShim, string(n.facts.ShimDriver())
		n.reasons = "/run/systemd/system is not a directory"
		if n.driver == systemd {
			n.reasons = "/run/systemd/system is a directory"
		}
	} else {
		d, err := cgroupdriver.Predict(w.settings.driver, n.facts, w.at(w.place.State))
		n.source, n.driver, n.decideErr = onTheSpot, string(d.Driver), w.rootless(err)
		n.reasons, n.warnings = strings.Join(d.Reasons, "; "), strings.Join(d.Warnings, "; ")
	}
	// The version of cgroups has a finding of its own.
	about := cgroupdriver.VersionWarning(n.facts.Mode)
	n.warnings = strings.TrimPrefix(strings.TrimPrefix(n.warnings, about), "; ")
}

// The drivers, as they are told and exported.
const (
	systemd  = "systemd"
	cgroupfs = "cgroupfs"
)
