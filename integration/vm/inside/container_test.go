// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// container is one with a running task.
type container struct {
	containerd.Container
	task containerd.Task
	exit <-chan containerd.ExitStatus
}

// id makes a container's name of the test's; it is short and fits a unit's name.
func id(t *testing.T, suffix string) string {
	name := strings.NewReplacer("/", "-", "_", "-", " ", "-", ".", "-").Replace(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")))
	return name + "-" + suffix
}

// createBy makes a busybox container with a task, both removed at the test's end,
// by an OCI runtime that is named, or by the node's.
func createBy(t *testing.T, binary, name string, args []string, specs ...oci.SpecOpts) *container {
	t.Helper()
	ctx := inNamespace(t)
	image, err := client.GetImage(ctx, busyboxRef)
	if err != nil {
		t.Fatalf("the busybox image: %v", err)
	}
	specs = append([]oci.SpecOpts{oci.WithImageConfigArgs(image, args)}, specs...)
	made, err := client.NewContainer(ctx, name, containerd.WithImage(image), containerd.WithNewSnapshot(name, image),
		withRuntime(binary), containerd.WithNewSpec(specs...))
	if err != nil {
		t.Fatalf("new container %s: %v", name, err)
	}
	t.Cleanup(func() { remove(t, name) })
	c := &container{Container: made}
	c.newTask(t)
	return c
}

func withRuntime(binary string) containerd.NewContainerOpts {
	return containerd.WithRuntime(config.RuntimeType, &options.Options{BinaryName: binary})
}

func (c *container) newTask(t *testing.T, opts ...containerd.NewTaskOpts) {
	t.Helper()
	ctx := inNamespace(t)
	var err error
	if c.task, err = c.NewTask(ctx, cio.NullIO, opts...); err != nil {
		t.Fatalf("create the task of %s: %v", c.ID(), err)
	}
	if c.exit, err = c.task.Wait(ctx); err != nil {
		t.Fatalf("wait for %s: %v", c.ID(), err)
	}
}

// start makes a container of the node's OCI runtime and starts it.
func start(t *testing.T, name string, args []string, specs ...oci.SpecOpts) *container {
	t.Helper()
	return startBy(t, "", name, args, specs...)
}

// startBy makes a container as createBy does and starts it.
func startBy(t *testing.T, binary, name string, args []string, specs ...oci.SpecOpts) *container {
	t.Helper()
	c := createBy(t, binary, name, args, specs...)
	if err := c.task.Start(inNamespace(t)); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	return c
}

func (c *container) pid() int { return int(c.task.Pid()) }

// kill ends the container with SIGKILL and returns its exit code.
func (c *container) kill(t *testing.T) uint32 {
	t.Helper()
	if err := c.task.Kill(inNamespace(t), syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", c.ID(), err)
	}
	return c.awaitExit(t)
}

func (c *container) awaitExit(t *testing.T) uint32 {
	t.Helper()
	var status containerd.ExitStatus
	select {
	case status = <-c.exit:
	case <-time.After(patience):
		t.Fatalf("%s has not exited after %v", c.ID(), patience)
	}
	if err := status.Error(); err != nil {
		t.Fatalf("wait for %s: %v", c.ID(), err)
	}
	return status.ExitCode()
}

// shell runs a script in the container that must succeed and returns what it
// prints.
func (c *container) shell(t *testing.T, script string) string {
	t.Helper()
	return strings.TrimSpace(quoinctl(t, "tasks", "exec", "--exec-id", "shell", c.ID(), "sh", "-c", script))
}

// remove ends and removes a container, as far as it is there.
func remove(t *testing.T, name string) {
	ctx, cancel := after()
	defer cancel()
	c, err := client.LoadContainer(ctx, name)
	if errdefs.IsNotFound(err) {
		return
	}
	if err != nil {
		t.Errorf("load %s: %v", name, err)
		return
	}
	if task, err := c.Task(ctx, nil); err == nil {
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
			t.Errorf("delete the task of %s: %v", name, err)
		}
	}
	if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		t.Errorf("delete %s: %v", name, err)
	}
}

// taskPID is the process of a container that somebody else started.
func taskPID(t *testing.T, ns, id string) int {
	t.Helper()
	ctx := withNamespace(t, ns)
	c, err := client.LoadContainer(ctx, id)
	if err != nil {
		t.Fatalf("load %s: %v", id, err)
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		t.Fatalf("the task of %s: %v", id, err)
	}
	return int(task.Pid())
}

// alive says whether a process is there and has not exited.
func alive(pid int) bool {
	p, ok := harness.FindProcess(pid)
	return ok && p.State != "Z"
}

// cgroupOf is the cgroup of a process: in cgroup2, and where the controllers are
// those of cgroup v1, in the hierarchy of pids.
func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	if bed == "hybrid" {
		want = "pids"
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && fields[1] == want {
			return fields[2]
		}
	}
	t.Fatalf("process %d is in no cgroup of %q:\n%s", pid, want, text)
	return ""
}

// cgroupDir is where the files of a cgroup are.
func cgroupDir(cgroup string) string {
	if bed == "hybrid" {
		return "/sys/fs/cgroup/pids" + cgroup
	}
	return "/sys/fs/cgroup" + cgroup
}

// gone says whether a cgroup is no more.
func gone(cgroup string) bool {
	_, err := os.Stat(cgroupDir(cgroup))
	return errors.Is(err, os.ErrNotExist)
}
