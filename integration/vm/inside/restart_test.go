// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestRestart: shims and containers live through a restart of the daemon, and
// what they do afterwards arrives, whatever systemd is told to kill with it.
func TestRestart(t *testing.T) {
	for _, mode := range []string{"process", "mixed", "control-group"} {
		t.Run(mode, func(t *testing.T) {
			logOnFailure(t)
			const dropIn = "/etc/systemd/system/quoind.service.d/killmode.conf"
			if err := writeFile(dropIn, "[Service]\nKillMode="+mode+"\n"); err != nil {
				t.Fatal(err)
			}
			systemctl(t, "daemon-reload")
			if got := systemctl(t, "show", "--property=KillMode", "--value", "quoind.service"); got != mode {
				t.Fatalf("KillMode is %s, want %s", got, mode)
			}
			before, err := daemon.pid()
			if err != nil {
				t.Fatal(err)
			}
			p := runPod(t, "restart-"+mode, "kubepods-besteffort-podrestart.slice")
			member := p.run(t, "c", nil, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1; done")
			c := start(t, id(t, "c"), []string{"sh", "-c", "trap 'exit 9' TERM; while :; do sleep 1; done"})
			pids := map[string]int{"the container": c.pid(), "the sandbox": taskPID(t, kubernetes, p.id), "the pod's container": taskPID(t, kubernetes, member)}
			for _, what := range []string{"the container", "the pod's container"} {
				process, ok := harness.FindProcess(pids[what])
				if !ok {
					t.Fatalf("%s is gone", what)
				}
				pids["the shim of "+what] = process.Parent
			}

			for what, pid := range pids {
				if cgroup := cgroupOf(t, pid); strings.Contains(cgroup, "quoind.service") {
					t.Errorf("%s is in the daemon's own cgroup, %s", what, cgroup)
				}
			}
			if err := daemon.restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := awaitServing(t.Context()); err != nil {
				t.Fatal(err)
			}
			if after, err := daemon.pid(); err != nil || after == before {
				t.Errorf("quoind was process %d and is %d: %v", before, after, err)
			}
			for what, pid := range pids {
				if !alive(pid) {
					t.Errorf("%s (process %d) did not live through the restart", what, pid)
				}
			}
			if t.Failed() {
				return // nothing can exit that is gone
			}
			checkExits(t, c, member)
		})
	}
}

// checkExits ends what lived through a restart and asks how it ended.
func checkExits(t *testing.T, c *container, member string) {
	t.Helper()
	ctx := inNamespace(t)
	again, err := client.LoadContainer(ctx, c.ID())
	if err != nil {
		t.Fatal(err)
	}
	task, err := again.Task(ctx, nil)
	if err != nil {
		t.Fatalf("the task after the restart: %v", err)
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Kill(ctx, sigterm); err != nil {
		t.Fatal(err)
	}
	c.exit = exit
	if code := c.awaitExit(t); code != 9 {
		t.Errorf("the container's exit code is %d, want 9", code)
	}
	if _, err := runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: member, Timeout: 60}); err != nil {
		t.Fatal(err)
	}
	if status := awaitMember(t, member); status.ExitCode != 7 {
		t.Errorf("the pod's container's exit code is %d, want 7", status.ExitCode)
	}
}
