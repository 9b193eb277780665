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
	faults = "integration/faults"
)

// everywhere are the tests of the package inside that every bed runs. Those that
// only v2 does are about what the others lack: units without systemd, keys of
// cgroup v2 on cgroup v1.
const everywhere = "TestDecision|TestPlacement.*|TestPod|TestMixedShapes|TestLeaks|TestLimits|TestDevices|TestResize|TestMetrics|TestOOM|TestCheckpoint.*"

// troubles are the tests of the package inside that take long and need a systemd on
// cgroup v2: what goes wrong on a node, and nodes within it. They are a bed of their
// own, beside which another can run where the processors are enough.
const troubles = "TestStalledSystemd|TestStallMidway|TestLeftoverScope|TestLeftoverShimScope|TestCarelessRuntime|TestOldRunc|TestFlip|TestRestart|TestHostEnds|TestClockJumps|TestNested.*"

// beds by name.
var beds = map[string]bed{
	"v2": {
		runs: []run{
			{pkg: inside, skip: "^(" + troubles + ")$", limit: 30 * time.Minute},
			{
				pkg: ctr,
				// Those whose way goes through cgroups.
				only: "^(TestDetachedLifecycle|TestExec|TestProcessList|TestKillAll|TestPauseAndResume|TestKillWhilePaused)$",
				// Whatever a user asks for: they want a machine without criu, which this one
				// has, and the names of cgroup v1.
				skip:  "^(TestCheckpoint|TestMetrics)$",
				limit: 10 * time.Minute,
			},
		},
	},
	"troubles": {
		runs: []run{
			{pkg: inside, only: "^(" + troubles + ")$", limit: 20 * time.Minute},
			// On a kernel that does not keep the exits of what it has reaped.
			{pkg: faults, only: "^(TestKillPoints)$", limit: 15 * time.Minute},
		},
	},
	"hybrid": {
		kernel: "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
		runs:   []run{{pkg: inside, only: "^(" + everywhere + "|TestRestart)$", limit: 15 * time.Minute}},
	},
	"bare": {
		kernel: "init=/sbin/bare-init",
		runs:   []run{{pkg: inside, only: "^(" + everywhere + "|TestCrun)$", limit: 15 * time.Minute}},
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
