// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// counting is a program whose memory can be told from outside: it counts into a
// file of the root, which outlives it.
var counting = []string{"sh", "-c", "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.2; done"}

// count is how far a container has counted.
func (c *container) count(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.pid()) + "/root/count")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text))) // empty while it is written
	return n
}

// awaitCount waits until a container has counted so far and returns how far it
// has.
func (c *container) awaitCount(t *testing.T, atLeast int) int {
	t.Helper()
	n := 0
	eventually(t, "it counts to "+strconv.Itoa(atLeast), func() string {
		if n = c.count(t); n < atLeast {
			return strconv.Itoa(n)
		}
		return ""
	})
	return n
}

// TestCheckpoint: a checkpoint leaves the container running, or ends it where
// that is asked for; a task that is restored goes on where the other one was,
// in a cgroup as if it had been created.
func TestCheckpoint(t *testing.T) {
	for driver, place := range placements("checkpoint") {
		t.Run(driver, func(t *testing.T) {
			logOnFailure(t)
			ctx := inNamespace(t)
			c := start(t, id(t, "c"), counting, oci.WithCgroup(place.path))
			c.awaitCount(t, 5)

			if _, err := c.task.Checkpoint(ctx, containerd.WithCheckpointName("vm.test/running-"+driver+":1")); err != nil {
				t.Fatalf("checkpoint: %v", err)
			}
			at := c.awaitCount(t, 5)
			c.awaitCount(t, at+3)

			image, err := c.task.Checkpoint(ctx, containerd.WithCheckpointName("vm.test/ended-"+driver+":1"),
				func(i *containerd.CheckpointTaskInfo) error {
					i.Options = &options.CheckpointOptions{Exit: true}
					return nil
				})
			if err != nil {
				t.Fatalf("checkpoint with exit: %v", err)
			}
			c.awaitExit(t)
			if _, err := c.task.Delete(ctx); err != nil {
				t.Fatal(err)
			}

			c.newTask(t, containerd.WithTaskCheckpoint(image))
			if err := c.task.Start(ctx); err != nil {
				t.Fatalf("restore: %v", err)
			}
			checkPlace(t, "the restored container", c.pid(), place.cgroup)
			// One that began anew would count to 1 first.
			if n := c.awaitCount(t, 1); n < at {
				t.Errorf("the restored container counts from %d, the other one was at %d", n, at)
			}
			c.awaitCount(t, at+10)
			if out := c.shell(t, "echo alive"); out != "alive" {
				t.Errorf("an exec says %q", out)
			}
			if code := c.kill(t); code != 137 {
				t.Errorf("the exit code is %d, want 137", code)
			}
		})
	}
}

// TestCheckpointCommand: what a user types leaves images where they are wanted.
func TestCheckpointCommand(t *testing.T) {
	logOnFailure(t)
	c := start(t, id(t, "c"), counting, oci.WithCgroup("/checkpoint/b"))
	c.awaitCount(t, 2)
	dir := t.TempDir()
	quoinctl(t, "tasks", "checkpoint", "--image-path", dir, c.ID(), "vm.test/command:1")
	if images, err := os.ReadDir(dir); err != nil || len(images) == 0 {
		t.Errorf("--image-path holds %v, %v", images, err)
	}
	at := c.awaitCount(t, 2)
	c.awaitCount(t, at+3)
}

// TestCheckpointCRI: the kubelet's checkpoint of a pod's container.
func TestCheckpointCRI(t *testing.T) {
	logOnFailure(t)
	p := runPod(t, "checkpoint", map[bool]string{true: "kubepods-besteffort-podcheckpoint.slice", false: "/kubepods/besteffort/podcheckpoint"}[onSystemd()])
	id := p.run(t, "c", nil, counting...)
	archive := t.TempDir() + "/checkpoint.tar"
	if _, err := runtime.CheckpointContainer(t.Context(), &cri.CheckpointContainerRequest{ContainerId: id, Location: archive, Timeout: 60}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(archive); err != nil || info.Size() == 0 {
		t.Errorf("the archive: %v, %v", info, err)
	}
	response, err := runtime.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil || response.Status.State != cri.ContainerState_CONTAINER_RUNNING {
		t.Errorf("after the checkpoint the container is %v, %v", response.GetStatus().GetState(), err)
	}
}
