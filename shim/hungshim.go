// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bootstrap"
)

const (
	// dying is how long a shim may take to be gone once its connections are: the
	// kernel closes a killed process's files before it ends its children.
	dying = 300 * time.Millisecond
	// handover bounds the orderly end of a container by a shim that lives.
	handover = 2500 * time.Millisecond
)

// endShim waits for the end of the shim: only then no OCI runtime of its runs any
// more, which the kernel ends with it. One that lives is lost to the daemon, which
// has given it up and will not come back to it. It may end the container itself, and
// goes on for that if it was stopped; if it does not answer, it is killed.
func (d *deletion) endShim(ctx context.Context) {
	w := watch(ctx, d.birth.Shim)
	if w == nil {
		return
	}
	defer w.Close()
	soon, cancel := context.WithTimeout(ctx, dying)
	defer cancel()
	if w.Wait(soon) == nil {
		return
	}
	err := w.Signal(unix.SIGCONT)
	if err == nil {
		err = d.handBack(ctx)
	}
	if err == nil {
		return
	}
	log.G(ctx).WithError(err).Warnf("the shim %d lives and does not end its container: it is killed", d.birth.Shim.Pid)
	if err = w.Kill(); err == nil {
		err = w.Wait(ctx)
	}
	if err != nil {
		log.G(ctx).WithError(err).Warn("end the shim")
	}
}

// handBack has a shim that lives end the container and forget it.
func (d *deletion) handBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	address, err := bootstrap.BundleAddress(d.bundle.Path())
	if err != nil {
		return err
	}
	conn, err := bootstrap.Dial(ctx, address)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	tasks := task.NewTTRPCTaskClient(client)
	if _, err := tasks.Kill(ctx, &task.KillRequest{ID: d.id, Signal: uint32(unix.SIGKILL), All: true}); err == nil {
		if _, err := tasks.Wait(ctx, &task.WaitRequest{ID: d.id}); err != nil {
			return fmt.Errorf("wait for the end of the container: %w", err)
		}
	}
	if _, err := tasks.Delete(ctx, &task.DeleteRequest{ID: d.id}); err != nil {
		return fmt.Errorf("delete the container: %w", err)
	}
	// It ends if this was its last container. The answer may not arrive.
	_, _ = tasks.Shutdown(ctx, &task.ShutdownRequest{ID: d.id})
	return nil
}
