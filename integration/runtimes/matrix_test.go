// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(harness.DebianRunc, harness.Crun, harness.StockD)...))
}

// cell is one combination that has to work.
type cell struct {
	runtime harness.Part
	kind    harness.Kind
	bed     harness.Bed
}

func (c cell) String() string {
	return fmt.Sprintf("%s/%s/%s", c.kind, strings.TrimPrefix(c.runtime.Name, "Debian's "), c.bed)
}

// matrix leaves out crun 1.8.1 where it does not run itself: beside a cgroup2
// mount on a hybrid machine, and with cgroup v2 without CAP_SYS_RESOURCE, which
// it wants for the limit of memory that its device filter locks.
func matrix() []cell {
	cells := []cell{
		{harness.Runc, harness.KindQuoind, harness.Native},
		{harness.DebianRunc, harness.KindQuoind, harness.Native},
		{harness.Runc, harness.KindQuoind, harness.CgroupV1},
		{harness.DebianRunc, harness.KindQuoind, harness.CgroupV1},
		{harness.Crun, harness.KindQuoind, harness.CgroupV1},
		{harness.Runc, harness.KindQuoind, harness.CgroupV2},
		{harness.DebianRunc, harness.KindQuoind, harness.CgroupV2},
	}
	if !harness.Reference() {
		cells = append(cells,
			cell{harness.Runc, harness.KindStock, harness.CgroupV1},
			cell{harness.DebianRunc, harness.KindStock, harness.CgroupV1},
			cell{harness.Crun, harness.KindStock, harness.CgroupV1})
	}
	return cells
}

func (c cell) daemon(t *testing.T) *harness.Daemon {
	t.Helper()
	d := harness.Shared(t, harness.Spec{Kind: c.kind, Bed: c.bed, Name: string(c.kind) + "-" + string(c.bed)})
	d.Busybox(t)
	return d
}

// container is a container for this cell.
func (c cell) container(args ...string) harness.Container {
	made := harness.Container{Args: args, Options: &options.Options{BinaryName: c.runtime.Path()}}
	if harness.Reference() && c.runtime.Name == harness.Crun.Name {
		// The reference passes the version that crun 1.8.1 refuses.
		made.Spec = append(made.Spec, withVersion("1.0.2"))
	}
	return made
}

func withVersion(version string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		s.Version = version
		return nil
	}
}

// TestMatrix: a container's whole life.
func TestMatrix(t *testing.T) {
	for _, c := range matrix() {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			d := c.daemon(t)
			t.Run("exit", func(t *testing.T) { c.exit(t, d) })
			t.Run("life", func(t *testing.T) { c.life(t, d) })
			t.Run("refusals", func(t *testing.T) { c.refusals(t, d) })
		})
	}
}

func (c cell) exit(t *testing.T, d *harness.Daemon) {
	r := d.Run(t, harness.ID(t), c.container("sh", "-c", "echo out; echo err >&2; exit 14"))
	if code := r.AwaitExit(t).ExitCode(); code != 14 {
		t.Errorf("exit code %d", code)
	}
	r.Stdout.Await(t, "out\n")
	r.Stderr.Await(t, "err\n")
	r.Delete(t)
}

func (c cell) life(t *testing.T, d *harness.Daemon) {
	ctx := d.Context(t, "")
	r := d.Run(t, harness.ID(t), c.container(harness.ExitOnTerm(15)...))
	r.Stdout.Await(t, "ready")

	out := &harness.Output{}
	exec, err := r.Task.Exec(ctx, "x", r.Process(t, "sh", "-c", "echo from exec; exit 16"), cio.NewCreator(cio.WithStreams(nil, out, out)))
	if err != nil {
		t.Fatal(err)
	}
	exit, err := exec.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Start(ctx); err != nil {
		t.Fatalf("exec: %v", err)
	}
	if code := harness.AwaitExit(t, "the exec", exit).ExitCode(); code != 16 {
		t.Errorf("the exec's code is %d", code)
	}
	out.Await(t, "from exec\n")

	if err := r.Task.Pause(ctx); err != nil {
		t.Errorf("pause: %v", err)
	}
	if s, err := r.Task.Status(ctx); err != nil || s.Status != containerd.Paused {
		t.Errorf("status %v, %v; want paused", s, err)
	}
	if err := r.Task.Resume(ctx); err != nil {
		t.Errorf("resume: %v", err)
	}
	if pids, err := r.Task.Pids(ctx); err != nil || len(pids) < 2 {
		t.Errorf("pids %v, %v", pids, err)
	}
	if metrics, err := r.Task.Metrics(ctx); err != nil || len(metrics.Data.GetValue()) == 0 {
		t.Errorf("metrics %v, %v", metrics, err)
	}
	if c.bed != harness.CgroupV2 { // the bed has no controller to limit with
		limit := int64(64 << 20)
		if err := r.Task.Update(ctx, containerd.WithResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})); err != nil {
			t.Errorf("update: %v", err)
		}
		file := filepath.Join("/sys/fs/cgroup/memory", d.Namespace, r.ID(), "memory.limit_in_bytes")
		if got, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(got)) != "67108864" {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	r.Signal(t, syscall.SIGTERM)
	if code := r.AwaitExit(t).ExitCode(); code != 15 {
		t.Errorf("exit code %d, want 15", code)
	}
	r.Delete(t)
}

func (c cell) refusals(t *testing.T, d *harness.Daemon) {
	for command, word := range map[string]string{"no-such-command": "not found", "/plain": "ermission denied"} {
		id := harness.ID(t, command)
		_, err := d.TryCreate(t, id, c.container(command))
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %v, want %q in it", command, err, word)
		}
		d.Remove(t, id)
	}
}

// TestRuntimeByTOML: the runtime's name as CRI passes it for any runtime type
// but runc's, inline and in a file.
func TestRuntimeByTOML(t *testing.T) {
	if harness.Reference() {
		t.Skip("the runc shim takes runc's options alone")
	}
	c := cell{harness.DebianRunc, harness.KindQuoind, harness.Native}
	d := c.daemon(t)
	root := filepath.Join(t.TempDir(), "root")
	body := fmt.Sprintf("BinaryName = %q\nRoot = %q\n", c.runtime.Path(), root)
	file := filepath.Join(t.TempDir(), "runtime.toml")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]*runtimeoptions.Options{
		"body": {TypeUrl: "quoin", ConfigBody: []byte(body)},
		"path": {TypeUrl: "quoin", ConfigPath: file},
	} {
		t.Run(name, func(t *testing.T) {
			made := c.container("sleep", "1000")
			made.Options = o
			r := d.Run(t, harness.ID(t), made)
			state := filepath.Join(root, d.Namespace, r.ID(), "state.json")
			content, err := os.ReadFile(state)
			if err != nil {
				t.Fatalf("the runtime's state is not where Root says: %v", err)
			}
			var parsed map[string]any
			if err := json.Unmarshal(content, &parsed); err != nil {
				t.Errorf("%s: %v", state, err)
			}
			r.Signal(t, syscall.SIGKILL)
			r.AwaitExit(t)
			r.Delete(t)
		})
	}
}

// TestTooNewForTheRuntime: a spec that uses what the runtime's version of the
// OCI specification does not have is refused by name, not run without it.
func TestTooNewForTheRuntime(t *testing.T) {
	if harness.Reference() {
		t.Skip("the reference leaves it to the runtime")
	}
	c := cell{harness.Crun, harness.KindQuoind, harness.CgroupV1}
	d := c.daemon(t)
	made := c.container("true")
	made.Spec = append(made.Spec, func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth9": {Name: "eth0"}}
		return nil
	})
	_, err := d.TryCreate(t, harness.ID(t), made)
	if err == nil || !strings.Contains(err.Error(), "netDevices") {
		t.Errorf("error %v, want the field netDevices in it", err)
	}
	d.Remove(t, harness.ID(t))
}
