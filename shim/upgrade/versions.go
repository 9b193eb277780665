// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Versions of the state's format. Each build reads and writes the newest and the
// one before it, so that a node can go one release forward or back.
const (
	// V1 is all that the containers need.
	V1 = 1
	// V2 also carries what the shim tells about itself: its counters and when it
	// was started.
	V2 = 2

	newest = V2
	oldest = V1
)

// newestByLinker lowers the newest version, to build the release before this one:
// -ldflags "-X github.com/quoin-io/quoin/shim/upgrade.newestByLinker=1".
var newestByLinker string

// Versions are those that this build reads and writes, ascending.
func Versions() []int {
	last := newest
	if n, err := strconv.Atoi(newestByLinker); err == nil {
		last = min(last, n)
	}
	var all []int
	for v := oldest; v <= last; v++ {
		all = append(all, v)
	}
	return all
}

func reads(version int) bool { return slices.Contains(Versions(), version) }

// Common is the newest version that this build and another, which reads theirs,
// have in common. It is errdefs.ErrNotImplemented when there is none.
func Common(theirs []int) (int, error) {
	ours := Versions()
	for _, v := range slices.Backward(ours) {
		if slices.Contains(theirs, v) {
			return v, nil
		}
	}
	// Not implemented, for nothing is wrong with either: the other is of a release too
	// far from this one, and none of its formats was implemented here.
	return 0, fmt.Errorf("the new binary reads state of format %s, this one writes %s: go by a release in between: %w",
		list(theirs), list(ours), errdefs.ErrNotImplemented)
}

func list(versions []int) string {
	if len(versions) == 0 {
		return "none"
	}
	var words []string
	for _, v := range versions {
		words = append(words, strconv.Itoa(v))
	}
	return strings.Join(words, ", ")
}
