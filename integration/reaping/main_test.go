// SPDX-License-Identifier: Apache-2.0

package reaping

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(harness.CNI)...))
}

func quoind(t *testing.T) *harness.Daemon {
	t.Helper()
	return harness.Shared(t, harness.Spec{Kind: harness.KindQuoind})
}

// hostPID leaves the container in the PID namespace of the test.
var hostPID = oci.WithHostNamespace(specs.PIDNamespace)

// noZombies fails unless every exited process is reaped.
func noZombies(t *testing.T) {
	t.Helper()
	harness.Eventually(t, "no zombie is left", func() string { return harness.Describe(harness.Zombies()) })
}

// shimOf is the shim that serves a container or pod.
func shimOf(t *testing.T, id string) harness.Process {
	t.Helper()
	return quoind(t).Shim(t, id)
}

// running lists the processes with exactly these arguments.
func running(args ...string) []harness.Process {
	return slices.DeleteFunc(harness.Processes(), func(p harness.Process) bool { return !slices.Equal(p.Args, args) })
}

// awaitParent waits until there are count processes with these arguments and
// all have the parent.
func awaitParent(t *testing.T, parent, count int, args ...string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("%d × %q below %d", count, strings.Join(args, " "), parent), func() string {
		found := running(args...)
		if len(found) != count || slices.ContainsFunc(found, func(p harness.Process) bool { return p.Parent != parent }) {
			return harness.Describe(found) + " of " + harness.Describe(harness.Processes())
		}
		return ""
	})
}
