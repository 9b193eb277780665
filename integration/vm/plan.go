// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

// bed is an arrangement of init and cgroups that the machine boots into.
type bed struct {
	// kernel are arguments of the kernel's command line.
	kernel string
	runs   []run
}

// run is one test binary's part of a bed.
type run struct {
	// pkg is the package below the module.
	pkg string
	// only and skip are patterns of test names; "" means none.
	only, skip string
	limit      time.Duration
}

const (
	inside = "integration/vm/inside"
	ctr    = "integration/ctr"
)

// beds by name. What a bed leaves out cannot be there: limits that cgroup v1
// spells otherwise, units without systemd.
var beds = map[string]bed{
	"v2": {
		runs: []run{
			{pkg: inside, limit: 20 * time.Minute},
			// TestCheckpoint wants a machine without criu, which this one has, and
			// TestMetrics the names of cgroup v1.
			{pkg: ctr, skip: "^(TestCheckpoint|TestMetrics)$", limit: 10 * time.Minute},
		},
	},
	"hybrid": {
		kernel: "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
		runs:   []run{{pkg: inside, only: "^(TestDecision|TestPlacement|TestPod|TestMixedShapes|TestRestart|TestLeaks)", limit: 10 * time.Minute}},
	},
	"bare": {
		kernel: "init=/sbin/bare-init",
		runs:   []run{{pkg: inside, only: "^(TestDecision|TestPlacement|TestPod|TestMixedShapes|TestLeaks)", limit: 10 * time.Minute}},
	},
}

func bedNames() string { return strings.Join(slices.Sorted(maps.Keys(beds)), ", ") }

// binary is the file name of a package's test binary.
func (r run) binary() string { return strings.ReplaceAll(r.pkg, "/", "-") + ".test" }

// planFor makes the guest's plan; a filter replaces the bed's choice of tests.
func (s settings) planFor(name string) (wire.Plan, error) {
	b, ok := beds[name]
	if !ok {
		return wire.Plan{}, fmt.Errorf("no bed %q: use one of %s", name, bedNames())
	}
	plan := wire.Plan{Bed: name}
	for _, r := range b.runs {
		args := []string{"-test.v=test2json", "-test.timeout=" + (r.limit - time.Minute).String()}
		only := r.only
		if s.filter != "" {
			only = s.filter
		}
		if only != "" {
			args = append(args, "-test.run="+only)
		}
		if r.skip != "" {
			args = append(args, "-test.skip="+r.skip)
		}
		plan.Runs = append(plan.Runs, wire.Run{
			Package: "vm/" + name + "/" + path.Base(r.pkg),
			Binary:  r.binary(),
			Args:    args,
			Seconds: int(r.limit.Seconds()),
		})
	}
	return plan, nil
}
