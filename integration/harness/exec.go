// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ExitOnTerm is the command of a container that says "ready" and runs until
// SIGTERM, on which it exits with the code.
func ExitOnTerm(code int) []string {
	return []string{"sh", "-c", fmt.Sprintf("trap 'exit %d' TERM; echo ready; while :; do sleep 1000 & wait $!; done", code)}
}

// Process is one for an exec: like the container's own but for its arguments, and
// without a terminal.
func (r *Running) Process(t testing.TB, args ...string) *specs.Process {
	t.Helper()
	spec, err := r.Spec(r.Context(t))
	if err != nil {
		t.Fatalf("the spec of %s: %v", r.ID(), err)
	}
	process := *spec.Process
	process.Args, process.Terminal = args, false
	return &process
}

// RunExec runs an exec to its end, deletes it and returns its exit status.
func (r *Running) RunExec(t testing.TB, id string, args ...string) containerd.ExitStatus {
	t.Helper()
	ctx := r.Context(t)
	exec, err := r.Task.Exec(ctx, id, r.Process(t, args...), cio.NullIO)
	if err != nil {
		t.Fatalf("exec %s in %s: %v", id, r.ID(), err)
	}
	exit, err := exec.Wait(ctx)
	if err != nil {
		t.Fatalf("wait for the exec %s in %s: %v", id, r.ID(), err)
	}
	if err := exec.Start(ctx); err != nil {
		t.Fatalf("start the exec %s in %s: %v", id, r.ID(), err)
	}
	status := AwaitExit(t, "the exec "+id+" in "+r.ID(), exit)
	if _, err := exec.Delete(ctx); err != nil {
		t.Fatalf("delete the exec %s in %s: %v", id, r.ID(), err)
	}
	return status
}
