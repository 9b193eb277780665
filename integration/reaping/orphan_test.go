// SPDX-License-Identifier: Apache-2.0

package reaping

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestHostPIDOrphans: children of a host-PID container double-fork, so their
// parent is gone. The shim adopts them, reaps those that end, and ends those
// that outlive the container.
func TestHostPIDOrphans(t *testing.T) {
	d := quoind(t)
	id := harness.ID(t)
	// Twenty end at once, ten outlive the first process.
	script := `i=0; while [ $i -lt 20 ]; do (setsid sleep 0.01 &); i=$((i+1)); done
		i=0; while [ $i -lt 10 ]; do (setsid sleep 901 &); i=$((i+1)); done
		trap 'exit 21' TERM; echo ready; while :; do sleep 902 & wait $!; done`
	r := d.Run(t, id, harness.Container{Args: []string{"sh", "-c", script}, Spec: []oci.SpecOpts{hostPID}})
	r.Stdout.Await(t, "ready")
	awaitParent(t, shimOf(t, id).PID, 10, "sleep", "901")
	harness.Eventually(t, "the short-lived are reaped", func() string { return harness.Describe(running("sleep", "0.01")) })
	noZombies(t)

	r.Signal(t, syscall.SIGTERM)
	if code := r.AwaitExit(t).ExitCode(); code != 21 {
		t.Errorf("exit code %d, want 21", code)
	}
	// Without a PID namespace of its own nothing but the shim ends these.
	harness.Eventually(t, "what outlives the container is ended", func() string {
		return harness.Describe(append(running("sleep", "901"), running("sleep", "902")...))
	})
	noZombies(t)
	r.Delete(t)
	harness.Leftovers(t, d)
}

// TestPrivatePIDNamespaceAdopts documents a limit that is the kernel's: since
// Linux 4.11 an orphan inside a PID namespace goes to the namespace's PID 1 and
// not to the subreaper outside. If that process does not wait, its zombies stay
// until the container ends.
func TestPrivatePIDNamespaceAdopts(t *testing.T) {
	d := quoind(t)
	id := harness.ID(t)
	r := d.Run(t, id, harness.Container{Args: []string{"sh", "-c", "(setsid sleep 903 &); (setsid true &); exec sleep 904"}})
	init := int(r.Task.Pid())
	awaitParent(t, init, 1, "sleep", "903")
	harness.Eventually(t, "the container's own zombie", func() string {
		for _, p := range harness.Zombies() {
			if p.Parent == init {
				return ""
			}
		}
		return harness.Describe(harness.Children(init))
	})
	r.Signal(t, syscall.SIGKILL)
	if code := r.AwaitExit(t).ExitCode(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	noZombies(t)
	r.Delete(t)
	harness.Leftovers(t, d)
}

// TestExecLeavesChild: an exec ends and leaves a child that holds its output.
// The exec's exit and its output are there at once.
func TestExecLeavesChild(t *testing.T) {
	d := quoind(t)
	for name, spec := range map[string][]oci.SpecOpts{"private": nil, "host": {hostPID}} {
		t.Run(name, func(t *testing.T) {
			id := harness.ID(t)
			ctx := d.Context(t, "")
			r := d.Run(t, id, harness.Container{Args: []string{"sh", "-c", "while :; do sleep 905 & wait $!; done"}, Spec: spec})
			process := r.Process(t, "sh", "-c", "(setsid sleep 906 &); echo last words; exit 3")
			out := &harness.Output{}
			exec, err := r.Task.Exec(ctx, "leaves", process, cio.NewCreator(cio.WithStreams(nil, out, out)))
			if err != nil {
				t.Fatal(err)
			}
			exit, err := exec.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := exec.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if code := harness.AwaitExit(t, "the exec", exit).ExitCode(); code != 3 {
				t.Errorf("exit code %d, want 3", code)
			}
			out.Await(t, "last words\n")
			parent := shimOf(t, id).PID
			if name == "private" {
				parent = int(r.Task.Pid())
			}
			awaitParent(t, parent, 1, "sleep", "906")
			r.Signal(t, syscall.SIGKILL)
			if code := r.AwaitExit(t).ExitCode(); code != 137 {
				t.Errorf("exit code %d, want 137", code)
			}
			harness.Eventually(t, "the exec's child is ended", func() string { return harness.Describe(running("sleep", "906")) })
			noZombies(t)
		})
	}
}

// TestManyContainersExitAtOnce: no exit is taken for another's.
func TestManyContainersExitAtOnce(t *testing.T) {
	d := quoind(t)
	const count = 8
	var all []*harness.Running
	for i := range count {
		all = append(all, d.Create(t, fmt.Sprintf("%s-%d", harness.ID(t), i), harness.Container{
			Args: []string{"sh", "-c", fmt.Sprintf("exit %d", 30+i)}, Spec: []oci.SpecOpts{hostPID},
		}))
	}
	started := make(chan error, count)
	for _, r := range all {
		go func() { started <- r.Task.Start(d.Context(t, "")) }()
	}
	for range all {
		if err := <-started; err != nil {
			t.Errorf("start: %v", err)
		}
	}
	for i, r := range all {
		if code := r.AwaitExit(t).ExitCode(); code != uint32(30+i) {
			t.Errorf("container %d: exit code %d, want %d", i, code, 30+i)
		}
		r.Delete(t)
	}
	noZombies(t)
	harness.Leftovers(t, d)
}
