// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// hasty ends an OCI runtime that hangs after this time. The honest calls are bounded
// by it, too, and have to be well within it even where the whole machine stands still
// for ten seconds and more.
const hasty = harness.Patience

// overdueBound is how long a call by a hanging runtime may take: its deadline, the
// grace of SIGTERM and of SIGKILL, and the same once more for the cleanup.
const overdueBound = hasty + 15*time.Second

// overdue is a part of the error of a call that ran into its deadline.
var overdue = fmt.Sprintf("did not finish within %v and was ended", hasty)

// impatient gives a daemon's shims short deadlines: quoind by its configuration,
// another daemon by its environment.
func impatient(spec harness.Spec) harness.Spec {
	spec.Timeouts = harness.PatientTimeouts() // not less than those
	if spec.Kind == harness.KindQuoind {
		deadlines := map[string]string{"terminate": "500ms"}
		for _, step := range []string{"create", "start", "exec", "delete"} {
			deadlines[step] = hasty.String()
		}
		spec.Plugins = map[string]map[string]any{"io.quoin.runtime.v1.quoin": {"deadlines": deadlines}}
		return spec
	}
	spec.Env = append(spec.Env, fmt.Sprintf("%[1]s=create=%[2]s,start=%[2]s,exec=%[2]s,delete=%[2]s,terminate=500ms", config.DeadlinesEnv, hasty))
	return spec
}

// runtimeFault is what an OCI runtime does wrong at a step.
type runtimeFault struct {
	name string
	// lines of shell; %s is the pid of a process of another container.
	lines string
	// says is a part of the error; "" when the step may succeed: the lie cannot be
	// seen.
	says string
	// steps that it makes sense for; all when empty.
	steps string
	// hangs until the deadline ends it.
	hangs bool
}

var runtimeFaults = []runtimeFault{
	{name: "hangs before", lines: `exec sleep 1000`, says: overdue, hangs: true},
	{name: "hangs after", lines: `real "$@"; exec sleep 1000`, says: overdue, hangs: true},
	{name: "hangs and minds no SIGTERM", lines: `trap '' TERM; while :; do sleep 1000; done`, says: overdue, hangs: true},
	{name: "crashes before", lines: `kill -9 $$`, says: "killed"},
	{name: "crashes after", lines: `real "$@"; kill -9 $$`, says: "killed"},
	{name: "fails though it succeeded", lines: `real "$@"; exit 3`, says: "exit status 3"},
	{name: "fails with rubbish in its log", lines: `printf '{\0rubbish\n' >"$log"; exit 1`, says: "exit status 1"},
	{name: "fails and leaves processes", lines: `sleep 1000 & setsid sleep 1000 & exit 1`, says: "exit status 1"},
	{name: "succeeds and did nothing", lines: `exit 0`, says: "it wrote no pid file", steps: "create exec"},
	{name: "succeeds and did nothing", lines: `exit 0`, steps: "start delete"},
	{name: "names the host's init", lines: `real "$@"; echo 1 >"$pidfile"; exit 0`, says: "contains no pid", steps: "create exec"},
	{name: "names its shim", lines: `real "$@"; echo $PPID >"$pidfile"; exit 0`, says: "is not a child of this shim", steps: "create exec"},
	{name: "names another's process", lines: `real "$@"; echo %s >"$pidfile"; exit 0`, says: "belongs to another container", steps: "create exec"},
	{name: "names a process that is not", lines: `real "$@"; echo 4000000 >"$pidfile"; exit 0`, says: "does not exist", steps: "create exec"},
	{name: "writes rubbish for a pid", lines: `real "$@"; echo rubbish >"$pidfile"; exit 0`, says: "contains no pid", steps: "create exec"},
}

// TestRuntimeFaults: whatever an OCI runtime does, the call ends in time with an
// error that says so, nothing is left, the id can be used again, and the other
// container of the pod does not notice.
func TestRuntimeFaults(t *testing.T) {
	if harness.Reference() {
		return // the runc shim waits for ever
	}
	harness.ForBoth(t, "liar", func(t *testing.T, spec harness.Spec) {
		testRuntimeFaults(t, harness.Start(t, impatient(spec)))
	})
}

// testRuntimeFaults has the runtimes that hang do so all at the same time, each in a
// pod of its own; the other faults meet one pod, one after the other. While its
// runtime does not hang a pod has the turn, so that the machine is not flooded.
func testRuntimeFaults(t *testing.T, d *harness.Daemon) {
	one := newFaultPod(t, d, "p", nil)
	var hanging sync.WaitGroup
	var turn sync.Mutex
	defer hanging.Wait()
	for _, step := range []string{"create", "start", "exec", "delete"} {
		for i, fault := range runtimeFaults {
			if fault.steps != "" && !strings.Contains(fault.steps, step) {
				continue
			}
			name, id := step+" "+fault.name, fmt.Sprintf("%s-%d", step, i)
			if !fault.hangs {
				t.Run(name, func(t *testing.T) { one.suffer(t, id, step, fault) })
				continue
			}
			// Not by t.Parallel, which is bounded by the number of cores.
			hanging.Go(func() {
				t.Run(name, func(t *testing.T) {
					turn.Lock()
					defer turn.Unlock()
					own := newFaultPod(t, d, "pod-"+id, &turn)
					own.suffer(t, id, step, fault)
					own.end(t)
				})
			})
		}
	}
	one.end(t)
}

// faultPod is a pod with a container that a fault of another's runtime is no matter of.
type faultPod struct {
	d    *harness.Daemon
	name string
	mate *harness.Running
	shim int
	turn *sync.Mutex // nil if there is no other
}

func newFaultPod(t *testing.T, d *harness.Daemon, name string, turn *sync.Mutex) *faultPod {
	t.Helper()
	mate := d.Run(t, "mate-"+name, harness.Container{Args: []string{"sleep", "1000"}, Spec: inPod(name)})
	return &faultPod{d: d, name: name, mate: mate, shim: d.Shim(t, mate.ID()).PID, turn: turn}
}

// suffer has the runtime of a container in the pod do something wrong at a step.
func (p *faultPod) suffer(t *testing.T, id, step string, fault runtimeFault) {
	t.Helper()
	b := &faultBed{d: p.d, pod: p.name, id: id, runtime: newFaultyRuntime(t), turn: p.turn}
	lines := fault.lines
	if strings.Contains(lines, "%s") {
		lines = fmt.Sprintf(lines, fmt.Sprint(p.mate.Task.Pid()))
	}
	b.runtime.fail(t, step, lines)
	b.meet(t, step, fault.says)
	if !b.runtime.met(step) {
		t.Error("the fault did not happen")
	}
	b.again(t)
	alive(t, p.mate)
	harness.Eventually(t, "the shim has its other container's process only", func() string {
		if left := harness.Children(p.shim); len(left) != 1 {
			return harness.Describe(left)
		}
		return ""
	})
}

func (p *faultPod) end(t *testing.T) {
	t.Helper()
	p.mate.Signal(t, syscall.SIGKILL)
	p.mate.AwaitExit(t)
	p.mate.Delete(t)
}

// inPod puts a container into the shim of a group.
func inPod(group string) []oci.SpecOpts {
	return []oci.SpecOpts{oci.WithAnnotations(map[string]string{"io.containerd.runc.v2.group": group})}
}

// alive asks a container to run something.
func alive(t *testing.T, r *harness.Running) {
	t.Helper()
	if status, err := r.Task.Status(r.Context(t)); err != nil || status.Status != "running" {
		t.Fatalf("the other container: %v, %v", status, err)
	}
	r.RunExec(t, "alive", "true")
}

// faultBed is a container whose runtime does something wrong.
type faultBed struct {
	d       *harness.Daemon
	pod, id string
	runtime *faultyRuntime
	turn    *sync.Mutex // as the pod's
}

func (b *faultBed) container() harness.Container {
	return harness.Container{Args: []string{"sleep", "1000"}, Options: b.runtime.options(), Spec: inPod(b.pod)}
}

// meet brings a container to the fault, and removes what is left of it.
func (b *faultBed) meet(t *testing.T, step, says string) {
	t.Helper()
	if step == "create" {
		b.check(t, b.bounded(t, func(context.Context) error { _, err := b.d.TryCreate(t, b.id, b.container()); return err }), says)
		return
	}
	r, err := b.d.TryCreate(t, b.id, b.container())
	if err != nil {
		t.Fatal(err)
	}
	ctx := r.Context(t)
	if step != "start" {
		if err := r.Task.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	switch step {
	case "start":
		b.check(t, b.bounded(t, r.Task.Start), says)
	case "exec":
		e, err := r.Task.Exec(ctx, "e", &specs.Process{Args: []string{"sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"}}, cio.NullIO)
		if err != nil {
			t.Fatal(err)
		}
		b.check(t, b.bounded(t, e.Start), says)
		if _, err := e.Delete(ctx); err != nil {
			t.Errorf("delete the exec: %v", err)
		}
	}
	if status, err := r.Task.Status(ctx); err != nil || status.Status == "stopped" {
		t.Errorf("after the fault it is %v, %v", status, err)
	}
	r.Signal(t, syscall.SIGKILL)
	if status := r.AwaitExit(t); status.ExitCode() != 137 {
		t.Errorf("exit code %d", status.ExitCode())
	}
	if step == "delete" {
		b.check(t, b.bounded(t, func(ctx context.Context) error { _, err := r.Task.Delete(ctx); return err }), says)
		if says == "" {
			return
		}
	}
	if _, err := r.Task.Delete(ctx); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// bounded makes the call that meets the fault, and fails the test when it takes too
// long. The others have their turn meanwhile.
func (b *faultBed) bounded(t *testing.T, call func(context.Context) error) error {
	t.Helper()
	if b.turn != nil {
		b.turn.Unlock()
		defer b.turn.Lock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), overdueBound+harness.Patience)
	defer cancel()
	watch := harness.StartWatch(t)
	err := call(ctx)
	if took := watch.Took(); took > overdueBound {
		t.Errorf("it took %v", took)
	}
	return err
}

func (b *faultBed) check(t *testing.T, err error, says string) {
	t.Helper()
	switch {
	case says == "" && err != nil:
		t.Errorf("it failed: %v", err)
	case says != "" && err == nil:
		t.Error("it succeeded")
	case says != "" && !strings.Contains(err.Error(), says):
		t.Errorf("the error is %q, and does not say %q", err, says)
	}
}

// again uses the id once more.
func (b *faultBed) again(t *testing.T) {
	t.Helper()
	b.d.Remove(t, b.id)
	r := b.d.Run(t, b.id, b.container())
	alive(t, r)
	r.Signal(t, syscall.SIGKILL)
	r.AwaitExit(t)
	r.Delete(t)
}
