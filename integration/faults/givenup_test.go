// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// TestCreateGivenUp: a client, and so the daemon, gives up a create while the OCI
// runtime hangs in it, and then in the delete that undoes it. The daemon cleans up
// after the container as after one whose shim is dead. The shim stays with the pod's
// other container, and ends this one when it can.
func TestCreateGivenUp(t *testing.T) {
	if harness.Reference() {
		return // the runc shim waits for ever
	}
	harness.ForBoth(t, "givenup", func(t *testing.T, spec harness.Spec) {
		// The hanging delete is beyond what stock containerd has for cleaning up, and within
		// what quoind has; honest calls are well within both.
		deadlines := map[string]string{"create": "30s", "delete": "15s"}
		spec.Timeouts = harness.PatientTimeouts()
		if spec.Kind == harness.KindQuoind {
			spec.Plugins = map[string]map[string]any{"io.quoin.runtime.v1.quoin": {"deadlines": deadlines}}
			spec.Timeouts[harness.CleanupTimeout] = "1m"
		} else {
			delete(spec.Timeouts, harness.CleanupTimeout)
			spec.Env = append(spec.Env, fmt.Sprintf("%s=create=%s,delete=%s", config.DeadlinesEnv, deadlines["create"], deadlines["delete"]))
		}
		d := harness.Start(t, spec)
		mate := d.Run(t, "mate", harness.Container{Args: []string{"sleep", "1000"}, Spec: inPod("p")})
		shim := d.Shim(t, "mate").PID
		slow := &faultBed{d: d, pod: "p", id: "slow", runtime: newFaultyRuntime(t)}
		made := filepath.Join(t.TempDir(), "made")
		slow.runtime.fail(t, "create", `real "$@"; touch `+made+`; exec sleep 1000`)
		slow.runtime.fail(t, "delete", `exec sleep 1000`)

		c := d.New(t, slow.id, slow.container())
		// Cancelled, not out of time: the shim gets to know of a time.
		ctx, cancel := context.WithCancel(mate.Context(t))
		defer cancel()
		created := make(chan error, 1)
		go func() {
			_, err := c.NewTask(ctx, cio.NullIO)
			created <- err
		}()
		harness.Eventually(t, "the OCI runtime has made the process", func() string { return fileMissing(made) })
		cancel()
		if err := <-created; !errdefs.IsCanceled(err) {
			t.Errorf("the create ended with %v", err)
		}
		harness.Eventually(t, "the OCI runtime is in the delete", func() string {
			if !slow.runtime.met("delete") {
				return "nothing has come"
			}
			return ""
		})
		harness.Eventually(t, "the shim has its other container's process only, and the daemon no bundle", func() string {
			alive(t, mate)
			if left := harness.Children(shim); len(left) != 1 {
				return harness.Describe(left)
			}
			if _, err := os.Lstat(bundleOf(d, slow.id)); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Sprintf("the bundle: %v", err)
			}
			return ""
		})
		if now := d.Shim(t, "mate").PID; now != shim {
			t.Errorf("the shim was %d and is %d", shim, now)
		}
		// Not of the same id: containerd may still be forgetting that.
		next := &faultBed{d: d, pod: "p", id: "next", runtime: slow.runtime}
		next.again(t)
		alive(t, mate)
		mate.Signal(t, syscall.SIGKILL)
		mate.AwaitExit(t)
		mate.Delete(t)
	})
}

func bundleOf(d *harness.Daemon, id string) string {
	return filepath.Join(d.State, "io.containerd.runtime.v2.task", d.Namespace, id)
}
