// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestForeignShim: runc's shim beside Quoin's is shown as such, with what the kernel
// knows of it, and counted as such.
func TestForeignShim(t *testing.T) {
	if harness.Reference() {
		return // all are foreign there
	}
	t.Parallel()
	const address = "127.0.0.1:1339"
	d := harness.Start(t, harness.Spec{Kind: harness.KindQuoind, Name: "foreign", Plugins: map[string]map[string]any{
		"io.containerd.server.v1.metrics": {"address": address},
	}})
	ours := d.Run(t, "ours", harness.Container{Args: []string{"sleep", "1000"}})
	ctx := d.Context(t, "")
	image := d.Busybox(t)
	container, err := d.Client().NewContainer(ctx, "theirs", containerd.WithNewSnapshot("theirs", image),
		containerd.WithRuntime("io.containerd.runc.v2", nil), containerd.WithNewSpec(oci.WithImageConfig(image), oci.WithProcessArgs("sleep", "1000")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Remove(t, "theirs") })
	task, err := container.NewTask(ctx, cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Start(ctx); err != nil {
		t.Fatal(err)
	}

	lines := shimLines(t, d)
	for id, want := range map[string]string{
		"ours":   fmt.Sprintf("ok %d", d.Shim(t, "ours").PID),
		"theirs": fmt.Sprintf("foreign %d", parentOf(t, int(task.Pid()))),
	} {
		if lines[id] != want {
			t.Errorf("%s: %q, want %q", id, lines[id], want)
		}
	}
	m := metrics{t, address}
	m.expect("of both", map[string]float64{`quoin_shims_count{status="ok"}`: 1, `quoin_shims_count{status="foreign"}`: 1, "quoin_shims_containers": 1})

	if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.AwaitExit(t, "theirs", exit)
	if _, err := task.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	ours.Signal(t, syscall.SIGKILL)
	ours.AwaitExit(t)
	ours.Delete(t)
	m.expect("of none", map[string]float64{`quoin_shims_count{status="ok"}`: 0, `quoin_shims_count{status="foreign"}`: 0, "quoin_shims_containers": 0})
	if lines := shimLines(t, d); len(lines) != 0 {
		t.Errorf("listed after all: %v", lines)
	}
}

// shimLines are status and pid of each shim, by id, from the table for people.
func shimLines(t *testing.T, d *harness.Daemon) map[string]string {
	t.Helper()
	result := harness.Run(t, harness.Quoinctl.Path(), "--namespace", d.Namespace, "shims", "ls", "--state", d.State)
	if result.Code != 0 {
		t.Fatalf("shims ls: %s", result.Stderr)
	}
	lines := map[string]string{}
	for i, line := range strings.Split(strings.TrimSpace(result.Stdout), "\n") {
		fields := strings.Fields(line) // NAMESPACE ID POD STATUS VERSION PID MEMORY CONTAINERS UPTIME
		if len(fields) != 9 {
			t.Fatalf("%d fields in %q", len(fields), line)
		}
		if i > 0 {
			lines[fields[1]] = fields[3] + " " + fields[5]
		}
	}
	return lines
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	p, ok := harness.FindProcess(pid)
	if !ok {
		t.Fatalf("process %d is gone", pid)
	}
	return p.Parent
}
