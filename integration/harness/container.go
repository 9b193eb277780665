// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"io"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
)

func withNamespace(ctx context.Context, ns string) context.Context {
	return namespaces.WithNamespace(ctx, ns)
}

// Container says what to make; its zero value with Args is enough.
type Container struct {
	Args []string
	// Spec changes the OCI spec after the image's own part.
	Spec []oci.SpecOpts
	// Options are the runtime's, such as *options.Options; nil for none.
	Options any
	Labels  map[string]string
	// Stdin is what the process reads; nothing if nil.
	Stdin io.Reader
	// IO replaces the FIFOs to Stdout and Stderr below.
	IO cio.Creator
	// Task are options of the task.
	Task []containerd.NewTaskOpts
	// Image is busybox if nil.
	Image containerd.Image
}

// Running is a container with its task.
type Running struct {
	containerd.Container
	Task           containerd.Task
	Stdout, Stderr *Output
	Exit           <-chan containerd.ExitStatus

	daemon *Daemon
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9]+`)

// ID makes a container id out of the test's name.
func ID(t testing.TB, suffix ...string) string {
	name := strings.Join(append([]string{t.Name()}, suffix...), "-")
	id := strings.Trim(notInID.ReplaceAllString(name, "-"), "-")
	if len(id) > 70 {
		id = id[:35] + id[len(id)-35:]
	}
	return strings.Trim(id, "-")
}

// New makes a container without a task; it is removed at the test's end.
func (d *Daemon) New(t testing.TB, id string, c Container) containerd.Container {
	t.Helper()
	image := c.Image
	if image == nil {
		image = d.Busybox(t)
	}
	specs := []oci.SpecOpts{oci.WithImageConfig(image)}
	if len(c.Args) > 0 {
		specs = append(specs, oci.WithProcessArgs(c.Args...))
	}
	specs = append(specs, c.Spec...)
	container, err := d.client.NewContainer(d.Context(t, ""), id,
		containerd.WithImage(image),
		containerd.WithNewSnapshot(id, image),
		containerd.WithContainerLabels(c.Labels),
		containerd.WithRuntime(d.Runtime, c.Options),
		containerd.WithNewSpec(specs...))
	if err != nil {
		t.Fatalf("new container %s: %v", id, err)
	}
	t.Cleanup(func() { d.Remove(t, id) })
	return container
}

// Create makes a container and its task, not started yet.
func (d *Daemon) Create(t testing.TB, id string, c Container) *Running {
	t.Helper()
	r, err := d.TryCreate(t, id, c)
	if err != nil {
		t.Fatalf("create the task %s: %v", id, err)
	}
	return r
}

// TryCreate is Create for a task that may be refused.
func (d *Daemon) TryCreate(t testing.TB, id string, c Container) (*Running, error) {
	t.Helper()
	container := d.New(t, id, c)
	r := &Running{Container: container, Stdout: &Output{}, Stderr: &Output{}, daemon: d}
	creator := c.IO
	if creator == nil {
		creator = cio.NewCreator(cio.WithStreams(c.Stdin, r.Stdout, r.Stderr))
	}
	ctx := d.Context(t, "")
	task, err := container.NewTask(ctx, creator, c.Task...)
	if err != nil {
		return r, err
	}
	r.Task = task
	if r.Exit, err = task.Wait(ctx); err != nil {
		t.Fatalf("wait for the task %s: %v", id, err)
	}
	return r, nil
}

// Run makes a container and starts it.
func (d *Daemon) Run(t testing.TB, id string, c Container) *Running {
	t.Helper()
	r := d.Create(t, id, c)
	if err := r.Task.Start(d.Context(t, "")); err != nil {
		t.Fatalf("start %s: %v", id, err)
	}
	return r
}

// AwaitExit returns the exit status of the task.
func (r *Running) AwaitExit(t testing.TB) containerd.ExitStatus {
	t.Helper()
	return AwaitExit(t, r.ID(), r.Exit)
}

// AwaitExit returns the status that a Wait delivers.
func AwaitExit(t testing.TB, what string, exit <-chan containerd.ExitStatus) containerd.ExitStatus {
	t.Helper()
	var status containerd.ExitStatus
	select {
	case status = <-exit:
	case <-time.After(Patience):
		t.Fatalf("%s has not exited after %v", what, Patience)
	}
	if err := status.Error(); err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
	return status
}

// Delete deletes the task and then the container with its snapshot.
func (r *Running) Delete(t testing.TB) {
	t.Helper()
	ctx := r.daemon.Context(t, "")
	if _, err := r.Task.Delete(ctx); err != nil {
		t.Fatalf("delete the task %s: %v", r.ID(), err)
	}
	if err := r.Container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		t.Fatalf("delete the container %s: %v", r.ID(), err)
	}
}

// Signal sends a signal to the task's first process.
func (r *Running) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := r.Task.Kill(r.daemon.Context(t, ""), signal); err != nil {
		t.Fatalf("signal %v to %s: %v", signal, r.ID(), err)
	}
}

// Remove kills and deletes a container, as far as it is there. It is for the
// end of a test; what cannot be removed shows among the leftovers.
func (d *Daemon) Remove(t testing.TB, id string) {
	ctx, cancel := context.WithTimeout(withNamespace(context.Background(), d.Namespace), Patience)
	defer cancel()
	if !d.running() {
		return
	}
	container, err := d.client.LoadContainer(ctx, id)
	if err != nil {
		return
	}
	if task, err := container.Task(ctx, nil); err == nil {
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
			t.Logf("delete the task %s at the end: %v", id, err)
		}
	}
	if err := container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		t.Logf("delete the container %s at the end: %v", id, err)
	}
}

// Task finds the task of a container again, as after a restart.
func (d *Daemon) Task(t testing.TB, id string) containerd.Task {
	t.Helper()
	ctx := d.Context(t, "")
	container, err := d.client.LoadContainer(ctx, id)
	if err != nil {
		t.Fatalf("the container %s: %v", id, err)
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		t.Fatalf("the task of %s: %v", id, err)
	}
	return task
}

// Context carries the containerd namespace of the container.
func (r *Running) Context(t testing.TB) context.Context { return r.daemon.Context(t, "") }
