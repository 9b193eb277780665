// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"fmt"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestStorm: the daemon dies while containers start and exit all the time.
// Whatever it knew of afterwards can be asked, killed and deleted.
func TestStorm(t *testing.T) {
	harness.OnBoth(t, "storm", func(t *testing.T, d *harness.Daemon) {
		d.Busybox(t)
		ctx := d.Context(t, "")
		const count = 12
		ids := make(chan string, count)
		for i := range count {
			go func() {
				id := fmt.Sprintf("storm-%d", i)
				defer func() { ids <- id }()
				// Some of these calls fail when the daemon goes; which, is chance.
				image, err := d.Client().GetImage(ctx, harness.BusyboxRef)
				if err != nil {
					return
				}
				container, err := d.Client().NewContainer(ctx, id, containerd.WithNewSnapshot(id, image), containerd.WithRuntime(d.Runtime, nil),
					containerd.WithNewSpec(oci.WithImageConfig(image), oci.WithProcessArgs("sh", "-c", fmt.Sprintf("exit %d", i))))
				if err != nil {
					return
				}
				task, err := container.NewTask(ctx, cio.NullIO)
				if err != nil {
					return
				}
				_ = task.Start(ctx) // see above
			}()
		}
		for range count / 3 {
			<-ids
		}
		d.Kill(t)
		for range count - count/3 {
			<-ids
		}
		d.Restart(t)
		containers, err := d.Client().Containers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, container := range containers {
			task, err := container.Task(ctx, nil)
			if err == nil {
				var i uint32
				if _, err := fmt.Sscanf(container.ID(), "storm-%d", &i); err != nil {
					t.Fatal(err)
				}
				status, err := task.Status(ctx)
				if err != nil {
					t.Errorf("status of %s: %v", container.ID(), err)
				} else if status.Status == containerd.Stopped && status.ExitStatus != i {
					t.Errorf("%s stopped with %d, want %d", container.ID(), status.ExitStatus, i)
				}
			}
			d.Remove(t, container.ID())
		}
	})
}
