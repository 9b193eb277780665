// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/integration/harness"
)

// statusUnknown is what is told of an exit that nobody saw.
const statusUnknown = containerd.UnknownExitStatus

// killPoint is a moment at which the shim is killed.
type killPoint struct {
	name string
	// gate stops the OCI runtime there; "" when the moment is a state.
	gate string
	// reach brings the container there; what stands at the gate is left there.
	reach func(v *victim, t *testing.T)
	// untold says that the container never was, so that nothing is told of it.
	untold bool
	// status is the init's true one. mayBeUnknown says that the container ends on
	// its own behind the shim's back: then a daemon that does not watch it itself
	// cannot know.
	status       uint32
	mayBeUnknown bool
	// told says that the shim told the exit before it was killed: containerd tells
	// it again, the same.
	told bool
}

// killPoints are in the order of a container's life: (a) before its exit, (b)
// during it, (c) after it.
var killPoints = []killPoint{
	{name: "create: before the runtime's", gate: "before-create", reach: (*victim).beginCreate, untold: true},
	{name: "create: after the runtime's", gate: "after-create", reach: (*victim).beginCreate, untold: true},
	{name: "created", reach: (*victim).create, status: 137},
	{name: "start: before the runtime's", gate: "before-start", reach: (*victim).beginStart, status: 137},
	{name: "start: after the runtime's", gate: "after-start", reach: (*victim).beginStart, status: 137},
	{name: "running", reach: (*victim).start, status: 137},
	{name: "exec: added", reach: (*victim).addExec, status: 137},
	{name: "exec: before the runtime's", gate: "before-exec", reach: (*victim).beginExec, status: 137},
	{name: "exec: after the runtime's", gate: "after-exec", reach: (*victim).beginExec, status: 137},
	{name: "exec: running", reach: (*victim).startExec, status: 137},
	{name: "exec: exited", reach: (*victim).exitExec, status: 137},
	{name: "paused", reach: (*victim).pause, status: 137},
	{name: "exit: not seen by the shim", reach: (*victim).exitUnseen, status: 42, mayBeUnknown: true},
	{name: "exit: told", reach: (*victim).terminated, status: 42, told: true},
	{name: "delete: before the runtime's", gate: "before-delete", reach: (*victim).beginDelete, status: 42, told: true},
	{name: "delete: after the runtime's", gate: "after-delete", reach: (*victim).beginDelete, status: 42, told: true},
}

// TestKillPoints: wherever the shim is killed, the container ends, its exit is told
// with a true or an honestly unknown status, nothing is left of it, and its id can
// be used again.
func TestKillPoints(t *testing.T) {
	harness.OnBoth(t, "points", func(t *testing.T, d *harness.Daemon) {
		d.Busybox(t)
		// One after the other: under containerd a delete has 5 seconds, and the machine
		// may be slow.
		for i, p := range killPoints {
			t.Run(p.name, func(t *testing.T) { killAt(t, d, fmt.Sprintf("v%d", i), p) })
		}
		if harness.Reference() {
			return // the runc shim leaves what it leaves
		}
		// The other daemon's containers may just be ending.
		harness.Eventually(t, "there are no zombies", func() string { return harness.Describe(harness.Zombies()) })
	})
}

func killAt(t *testing.T, d *harness.Daemon, id string, p killPoint) {
	v := newVictim(t, d, id)
	if p.gate != "" {
		v.runtime.close(t, p.gate)
	}
	p.reach(v, t)
	if p.gate != "" {
		v.runtime.reached(t, p.gate)
		v.runtime.open(t, p.gate)
	}
	shim := d.Shim(t, id).PID
	init := v.initPid()
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	v.settled(t)
	if !p.untold {
		v.checkExit(t, p)
	}
	v.checkGone(t, shim, init)
	v.checkUsable(t)
}

// checkExit checks what was told of the init's exit: at least once, and each time
// the same.
func (v *victim) checkExit(t *testing.T, p killPoint) {
	t.Helper()
	ok := []uint32{p.status}
	if p.mayBeUnknown && !(v.watched() && kernelKeepsExits(t)) {
		ok = append(ok, statusUnknown)
	}
	v.told.awaitExit(t, "")
	harness.Eventually(t, "the daemon has forgotten the task", func() string { return v.known(t) })
	var exits []telling
	for _, e := range v.told.so() {
		if e.exit && e.exec == "" {
			exits = append(exits, e)
		}
	}
	most := 1
	if p.told && !v.watched() {
		most = 2
	}
	if len(exits) > most {
		t.Errorf("the exit was told %d times: %v", len(exits), exits)
	}
	for _, e := range exits {
		if !slices.Contains(ok, e.status) || e != exits[0] || int(e.pid) != v.initPid() {
			t.Errorf("told: %v, want a status of %v and pid %d", exits, ok, v.initPid())
		}
	}
}

// watched says whether the daemon holds on to the containers' processes itself.
func (v *victim) watched() bool { return v.d.Kind == harness.KindQuoind && !harness.Reference() }

// kernelKeepsExits says whether the kernel tells how a process ended to whoever held a
// pidfd of it, which Linux does from 6.15 on.
func kernelKeepsExits(t *testing.T) bool {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	return unix.IoctlPidfdInfo(fd, &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0
}

// known says what the daemon still has of the task.
func (v *victim) known(t *testing.T) string {
	if _, err := v.container.Task(v.d.Context(t, ""), nil); err == nil {
		return "it has the task"
	}
	return ""
}

// checkGone waits until nothing of the container is left.
func (v *victim) checkGone(t *testing.T, pids ...int) {
	t.Helper()
	harness.Eventually(t, "nothing is left of the container", func() string {
		if known := v.known(t); known != "" {
			return known
		}
		for _, pid := range pids {
			if p, ok := harness.FindProcess(pid); ok && pid != 0 {
				return p.String()
			}
		}
		for _, pattern := range []string{
			filepath.Join(v.d.State, "io.containerd.runtime.v2.task", "*", v.id),
			filepath.Join("/sys/fs/cgroup", "*", v.d.Namespace, v.id),
			filepath.Join("/run/containerd/runc", v.d.Namespace, v.id),
		} {
			if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
				return fmt.Sprint(found, err)
			}
		}
		for _, p := range harness.Processes() {
			if slices.Contains(p.Args, v.runtime.path()) {
				return p.String()
			}
		}
		return ""
	})
}

// killAnother runs another task of the container and kills it.
func (v *victim) killAnother(t *testing.T) containerd.ExitStatus {
	t.Helper()
	ctx := v.d.Context(t, "")
	var task containerd.Task
	harness.Eventually(t, "the id can be used again", func() (why string) {
		// containerd forgets the old task a moment after it has told of its end.
		var err error
		if task, err = v.container.NewTask(ctx, cio.NullIO); err != nil {
			why = err.Error()
		}
		return why
	})
	exit, err := task.Wait(ctx)
	if err == nil {
		err = task.Start(ctx)
	}
	if err == nil {
		err = task.Kill(ctx, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatalf("the id cannot be used again: %v", err)
	}
	status := harness.AwaitExit(t, v.id, exit)
	if _, err := task.Delete(ctx); err != nil {
		t.Errorf("delete the second task: %v", err)
	}
	return status
}

// checkUsable runs another task of the container.
func (v *victim) checkUsable(t *testing.T) {
	t.Helper()
	if status := v.killAnother(t); status.ExitCode() != 137 {
		t.Errorf("the second task exited with %d", status.ExitCode())
	}
	if err := v.container.Delete(v.d.Context(t, ""), containerd.WithSnapshotCleanup); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(bundleOf(v.d, v.id)); err == nil {
		t.Error("the bundle of the second task is left")
	}
}
