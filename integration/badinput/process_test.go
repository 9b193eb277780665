// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"testing"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

// process is like the container's own but for its arguments.
func process(t *testing.T, r *harness.Running, args ...string) *specs.Process {
	t.Helper()
	spec, err := r.Spec(r.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	p := *spec.Process
	p.Args = args
	return &p
}

// deleteTask is the request itself: containerd's client refuses some by itself.
func deleteTask(id string) *tasks.DeleteTaskRequest { return &tasks.DeleteTaskRequest{ContainerID: id} }
