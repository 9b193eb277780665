// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/typeurl/v2"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestShimKilled: the daemon notices that a shim died, ends what the shim
// served, tells its clients and leaves nothing.
func TestShimKilled(t *testing.T) {
	harness.OnBoth(t, "shim", func(t *testing.T, d *harness.Daemon) {
		r := d.Run(t, "orphaned", harness.Container{Args: []string{"sleep", "1000"}})
		ctx := d.Context(t, "")
		exits, failures := d.Client().EventService().Subscribe(ctx, `topic=="/tasks/exit"`)
		if err := syscall.Kill(d.Shim(t, r.ID()).PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// A Wait that is under way ends with the shim's connection, so clients
		// that watch events are told.
		select {
		case envelope := <-exits:
			event, err := typeurl.UnmarshalAny(envelope.Event)
			if err != nil {
				t.Fatal(err)
			}
			if exit, ok := event.(*events.TaskExit); !ok || exit.ContainerID != r.ID() || exit.ExitStatus != 137 {
				t.Errorf("event %v, want the exit 137 of %s", event, r.ID())
			}
		case err := <-failures:
			t.Fatalf("events: %v", err)
		case <-time.After(harness.Patience):
			t.Fatal("nobody was told of the exit")
		}
		harness.Eventually(t, "the container is ended", func() string {
			if p, ok := harness.FindProcess(int(r.Task.Pid())); ok {
				return p.String()
			}
			return ""
		})
		d.Remove(t, r.ID())
		if harness.Reference() {
			removeSockets(t) // which the runc shim's delete leaves
		}
		harness.Eventually(t, "nothing is left of the container", func() string {
			if _, err := os.Stat(fmt.Sprintf("/sys/fs/cgroup/pids/%s/%s", d.Namespace, r.ID())); err == nil {
				return "its cgroup"
			}
			return ""
		})
	})
}

// TestGroup: containers of one group have one shim, and their exits stay
// apart.
func TestGroup(t *testing.T) {
	harness.OnBoth(t, "group", func(t *testing.T, d *harness.Daemon) {
		var all []*harness.Running
		for i := range 3 {
			all = append(all, d.Run(t, fmt.Sprintf("member-%d", i), harness.Container{
				Args: harness.ExitOnTerm(60 + i),
				Spec: []oci.SpecOpts{oci.WithAnnotations(map[string]string{"io.containerd.runc.v2.group": "the-group"})},
			}))
			all[i].Stdout.Await(t, "ready")
		}
		var shims int
		for _, r := range all {
			shims += len(d.Shims(r.ID()))
		}
		if shims != 1 {
			t.Errorf("%d shims for one group", shims)
		}
		for i, r := range all {
			r.Signal(t, syscall.SIGTERM)
			if code := r.AwaitExit(t).ExitCode(); code != uint32(60+i) {
				t.Errorf("exit code %d, want %d", code, 60+i)
			}
			r.Delete(t)
		}
	})
}

func removeSockets(t *testing.T) {
	t.Helper()
	sockets, err := filepath.Glob("/run/containerd/s/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, socket := range sockets {
		if err := os.Remove(socket); err != nil {
			t.Error(err)
		}
	}
}
