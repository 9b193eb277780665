// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

// withSync mounts a directory of the test's at /sync, so that the test decides
// when the container goes on.
func withSync(dir string) oci.SpecOpts {
	return oci.WithMounts([]specs.Mount{{Type: "bind", Source: dir, Destination: "/sync", Options: []string{"rbind", "rw"}}})
}

// await is a script that waits for a file of the test's.
func await(name string) string { return "until [ -e /sync/" + name + " ]; do sleep 0.02; done; " }

func touch(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantStatus(t *testing.T, d *harness.Daemon, task containerd.Task, state containerd.ProcessStatus, code uint32) containerd.Status {
	t.Helper()
	status, err := task.Status(d.Context(t, ""))
	if err != nil {
		t.Fatalf("status of %s: %v", task.ID(), err)
	}
	if status.Status != state || status.ExitStatus != code {
		t.Errorf("%s is %s with code %d, want %s with code %d", task.ID(), status.Status, status.ExitStatus, state, code)
	}
	return status
}

// TestRunning: what ran before runs on, and answers.
func TestRunning(t *testing.T) {
	harness.OnBoth(t, "run", func(t *testing.T, d *harness.Daemon) {
		ctx := d.Context(t, "")
		r := d.Run(t, "runs", harness.Container{Args: []string{"sleep", "1000"}})
		pid := r.Task.Pid()
		exec, err := r.Task.Exec(ctx, "the-exec", r.Process(t, "sleep", "999"), cio.NullIO)
		if err != nil {
			t.Fatal(err)
		}
		if err := exec.Start(ctx); err != nil {
			t.Fatal(err)
		}
		paused := d.Run(t, "paused", harness.Container{Args: []string{"sleep", "1000"}})
		if err := paused.Task.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		created := d.Create(t, "created", harness.Container{Args: []string{"sh", "-c", "exit 3"}})

		d.Kill(t)
		if harness.Gone(int(pid)) {
			t.Fatal("the container went with the daemon")
		}
		d.Restart(t)

		task := d.Task(t, "runs")
		if task.Pid() != pid {
			t.Errorf("pid %d, was %d", task.Pid(), pid)
		}
		wantStatus(t, d, task, containerd.Running, 0)
		wantStatus(t, d, d.Task(t, paused.ID()), containerd.Paused, 0)
		wantStatus(t, d, d.Task(t, created.ID()), containerd.Created, 0)
		pids, err := task.Pids(ctx)
		if err != nil || len(pids) != 2 {
			t.Errorf("pids %v, %v; want the first process and the exec", pids, err)
		}
		again, err := task.LoadProcess(ctx, "the-exec", nil)
		if err != nil {
			t.Fatalf("the exec after the restart: %v", err)
		}
		exit, err := again.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Kill(ctx, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if code := harness.AwaitExit(t, "the exec", exit).ExitCode(); code != 137 {
			t.Errorf("the exec's code is %d", code)
		}
		if _, err := again.Delete(ctx); err != nil {
			t.Errorf("delete the exec: %v", err)
		}
		one := d.Task(t, created.ID())
		exit, err = one.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Start(ctx); err != nil {
			t.Fatalf("start what was created before the restart: %v", err)
		}
		if code := harness.AwaitExit(t, "created", exit).ExitCode(); code != 3 {
			t.Errorf("its code is %d, want 3", code)
		}
		if err := d.Task(t, paused.ID()).Resume(ctx); err != nil {
			t.Errorf("resume after the restart: %v", err)
		}
	})
}

// forgottenByReference leaves a test out of the reference run: containerd's
// loading of shims deletes a task without processes, and the runc shim shows
// none after the exit, so its code is lost.
func forgottenByReference(t *testing.T) {
	t.Helper()
	if harness.Reference() {
		t.Skip("stock containerd with the runc shim loses what finishes while it is away")
	}
}

// TestFinished: what finished while there was no daemon has its true code and
// time.
func TestFinished(t *testing.T) {
	forgottenByReference(t)
	harness.OnBoth(t, "fin", func(t *testing.T, d *harness.Daemon) {
		ctx := d.Context(t, "")
		sync := t.TempDir()
		const count = 5
		var pids []int
		for i := range count {
			r := d.Run(t, fmt.Sprintf("finishes-%d", i), harness.Container{
				Args: []string{"sh", "-c", await("go") + fmt.Sprintf("exit %d", 20+i)},
				Spec: []oci.SpecOpts{withSync(sync)},
			})
			pids = append(pids, int(r.Task.Pid()))
		}
		d.Kill(t)
		down := time.Now()
		touch(t, sync, "go")
		harness.Eventually(t, "the containers finish", func() string {
			for _, pid := range pids {
				if p, ok := harness.FindProcess(pid); ok {
					return p.String()
				}
			}
			return ""
		})
		up := time.Now()
		d.Restart(t)
		for i := range count {
			task := d.Task(t, fmt.Sprintf("finishes-%d", i))
			status := wantStatus(t, d, task, containerd.Stopped, uint32(20+i))
			if status.ExitTime.Before(down) || status.ExitTime.After(up) {
				t.Errorf("%s exited at %v, not between %v and %v", task.ID(), status.ExitTime, down, up)
			}
			exit, err := task.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if code := harness.AwaitExit(t, task.ID(), exit).ExitCode(); code != uint32(20+i) {
				t.Errorf("wait says %d", code)
			}
			deleted, err := task.Delete(ctx)
			if err != nil || deleted.ExitCode() != uint32(20+i) {
				t.Errorf("delete says %v, %v", deleted, err)
			}
		}
	})
}

// TestOutput: every line written before, during and after the daemon's absence
// arrives, by FIFO and in a file.
func TestOutput(t *testing.T) {
	harness.OnBoth(t, "out", func(t *testing.T, d *harness.Daemon) {
		sync, file := t.TempDir(), filepath.Join(t.TempDir(), "log")
		script := `w() { i=0; while [ $i -lt 3000 ]; do echo $1 line $i; i=$((i+1)); done; }; ` +
			"w before; " + await("down") + "w during; " + await("up") + "w after; exit 9"
		var want strings.Builder
		for _, phase := range []string{"before", "during", "after"} {
			for i := range 3000 {
				fmt.Fprintf(&want, "%s line %d\n", phase, i)
			}
		}
		container := harness.Container{Args: []string{"sh", "-c", script}, Spec: []oci.SpecOpts{withSync(sync)}}
		piped := d.Run(t, "piped", container)
		container.IO = cio.LogFile(file)
		d.Run(t, "filed", container)

		piped.Stdout.Await(t, "before line 100\n")
		d.Kill(t)
		touch(t, sync, "down")
		piped.Stdout.Await(t, "during line 2999\n")
		d.Restart(t)
		touch(t, sync, "up")
		for _, id := range []string{"piped", "filed"} {
			exit, err := d.Task(t, id).Wait(d.Context(t, ""))
			if err != nil {
				t.Fatal(err)
			}
			if code := harness.AwaitExit(t, id, exit).ExitCode(); code != 9 {
				t.Errorf("%s: code %d", id, code)
			}
		}
		harness.Eventually(t, "the piped output is complete", func() string { return differ(piped.Stdout.String(), want.String()) })
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := differ(string(content), want.String()); d != "" {
			t.Errorf("the file: %s", d)
		}
	})
}

// differ says where two outputs part; "" if they are equal.
func differ(got, want string) string {
	if got == want {
		return ""
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%d bytes instead of %d, different from byte %d: %.60q", len(got), len(want), i, got[i:])
}
