// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// TestLeftOutsideItsScope: a runtime that says it has made the container, whose
// process systemd has not moved, has failed.
func TestLeftOutsideItsScope(t *testing.T) {
	b := newBed(t, func(e *Env) {
		e.Driver = cgroup.Systemd
		e.Host = cgroup.Facts{SystemdDir: true, InitComm: "systemd"}
	})
	cfg := b.config("c", "sleep", "1000")
	placed(t, cfg, "system.slice:quoin-test:nowhere")
	before := takeInventory(t)
	_, _, err := b.set.Create(t.Context(), cfg)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "not in the unit quoin-test-nowhere.scope") {
		t.Errorf("%v", err)
	}
	b.nothingLeft(before, cfg)
}

// TestShimWithoutHome: no container is served by a shim that is not in its place,
// and one is as soon as it is.
func TestShimWithoutHome(t *testing.T) {
	silent := errors.New("systemd is silent")
	var homeless error = silent
	b := newBed(t, func(e *Env) { e.Home = func(context.Context) error { return homeless } })
	cfg := b.config("c", "sleep", "1000")
	before := takeInventory(t)
	if _, _, err := b.set.Create(t.Context(), cfg); !errors.Is(err, silent) || !strings.Contains(err.Error(), `container "c"`) {
		t.Errorf("%v", err)
	}
	b.nothingLeft(before, cfg)
	homeless = nil
	b.remove(b.createBy(cfg))
}
