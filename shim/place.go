// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/cgroup"
)

// A shim that stayed in the cgroup of the daemon that started it would be taken
// with it: by `systemctl kill`, by a restart with a KillMode other than process,
// by an OOM kill of the service. So it gets a place of its own: under systemd a
// scope, elsewhere a cgroup beside the daemon's.
const (
	// sliceEnv is resolved by start for serve.
	sliceEnv = cgroup.SliceEnv
	// cgroupEnv is the cgroup that serve joins; set by start only.
	cgroupEnv = "QUOIN_SHIM_CGROUP"
	// followEnv is not empty when the shim's containers are in units of systemd's,
	// which it stops together with the shim's; set by start only.
	followEnv = "QUOIN_SHIM_FOLLOWS"

	defaultSlice = "system.slice"
	sliceSuffix  = ".slice"
)

// How long systemd waits for a shim when it stops its scope, at the end of the
// host's run.
const (
	// followTimeout lets a shim see the end of containers that systemd stops at the same
	// time. It gives their scopes 90 s (DefaultTimeoutStopSec).
	followTimeout = 95 * time.Second
	// stayTimeout is for a shim of containers that nobody tells to end before systemd
	// ends all that is left: it would wait in vain.
	stayTimeout = 10 * time.Second
)

// chooseHome decides where the serving process puts itself, as environment
// variables for it. ShimCgroup, which start has joined already, comes first; a
// slice given there means a scope in it.
func chooseHome(opts bundle.Options, facets bundle.Facets) []string {
	if opts.ShimCgroup != "" && !strings.HasSuffix(opts.ShimCgroup, sliceSuffix) {
		return nil
	}
	driver, err := cgroup.ParseDriver(os.Getenv(cgroup.DriverEnv))
	if err != nil || driver == cgroup.Unset {
		driver = cgroup.Cgroupfs
		if cgroup.ProbeInit("").SystemdRuns() {
			driver = cgroup.Systemd
		}
	}
	if driver == cgroup.Systemd {
		home := []string{sliceEnv + "=" + chooseSlice(opts, facets)}
		if cgroup.Shape(facets.CgroupsPath) == cgroup.Systemd {
			home = append(home, followEnv+"=1")
		}
		return home
	}
	own, err := cgroup.Own()
	if err != nil || own == "/" || own == "" {
		return nil // the daemon is in no cgroup that anybody could end
	}
	return []string{cgroupEnv + "=" + path.Clean(own) + "-shims"}
}

func chooseSlice(opts bundle.Options, facets bundle.Facets) string {
	slice := os.Getenv(sliceEnv)
	if opts.ShimCgroup != "" {
		slice = path.Base(opts.ShimCgroup)
	}
	if slice == cgroup.PodSlice {
		slice = ""
		if cgroup.Shape(facets.CgroupsPath) == cgroup.Systemd {
			slice, _, _ = strings.Cut(facets.CgroupsPath, ":")
		}
	}
	if slice == "" {
		return defaultSlice
	}
	return slice
}

// joinCgroup moves the process that serves into the cgroup of the ShimCgroup
// option, as the runc shim does: before it serves, and failing with it.
func joinCgroup(opts bundle.Options, pid int) error {
	if opts.ShimCgroup == "" || strings.HasSuffix(opts.ShimCgroup, sliceSuffix) {
		return nil
	}
	if err := cgroup.Join(opts.ShimCgroup, pid); err != nil {
		if errors.Is(err, errdefs.ErrInvalidArgument) {
			return fmt.Errorf("the option ShimCgroup is a cgroup's path, or a slice for scopes: %w", err)
		}
		return fmt.Errorf("move the shim into its cgroup: %w", err)
	}
	return nil
}
