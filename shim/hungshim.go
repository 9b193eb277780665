// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/control"
)

const (
	// dying is how long a shim may take to be gone once its connections are: the
	// kernel closes a killed process's files before it ends its children.
	dying = 300 * time.Millisecond
	// handover is the share of a delete's time within which a shim that lives has to
	// answer, and, if the container is its last, to end that in order. The rest is for
	// what a killed one leaves.
	handover = 0.6
	// handoverShared is that share for the end of a container of a shim that serves others.
	handoverShared = 0.9
)

// endShim waits for the end of the shim: only then no OCI runtime of its runs any
// more, which the kernel ends with it. One that lives is lost to the daemon, which
// has given it up and will not come back to it. It may end the container itself, and
// goes on for that if it was stopped; if it does not answer, it is killed. One that
// answers and serves other containers stays: the daemon has given up only this one, as
// it does with a create that takes too long. An error says that it is not done with it.
func (d *deletion) endShim(ctx context.Context) error {
	w := watch(ctx, d.birth.Shim)
	if w == nil {
		return nil
	}
	defer w.Close()
	soon, cancel := context.WithTimeout(ctx, dying)
	defer cancel()
	if w.Wait(soon) == nil {
		return nil
	}
	if d.replaced() {
		return nil
	}
	others := 0
	err := w.Signal(unix.SIGCONT)
	if err == nil {
		others, err = d.handBack(ctx)
	}
	switch {
	case err == nil:
		return nil
	case others > 0:
		return fmt.Errorf("the shim %d is not done with container %q, and stays for %d that it serves besides: %w", d.birth.Shim.Pid, d.id, others, err)
	}
	log.G(ctx).WithError(err).Warnf("the shim %d lives and does not end its container: it is killed", d.birth.Shim.Pid)
	if err = w.Kill(); err == nil {
		err = w.Wait(ctx)
	}
	if err != nil {
		log.G(ctx).WithError(err).Warn("end the shim")
	}
	return nil
}

// handBack has a shim that lives end the container and forget it. It tells how many
// others the shim serves, as far as it gets an answer.
func (d *deletion) handBack(ctx context.Context) (others int, err error) {
	if d.address == "" {
		return 0, errors.New("its address is not known")
	}
	soon, cancel := within(ctx, handover)
	defer cancel()
	served, others, err := d.served(soon)
	if err != nil || (!served && others > 0) {
		return others, err
	}
	if others > 0 {
		soon, cancel = within(ctx, handoverShared)
		defer cancel()
	}
	return others, d.endByShim(soon)
}

// within ends when a share of the time that ctx has left is over.
func within(ctx context.Context, share float64) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(share*float64(time.Until(end))))
}

// served tells whether the shim has the container, and how many others.
func (d *deletion) served(ctx context.Context) (has bool, others int, err error) {
	client, err := control.Dial(ctx, d.address)
	if err != nil {
		return false, 0, err
	}
	defer client.Close()
	info, err := client.Info(ctx)
	if err != nil {
		return false, 0, fmt.Errorf("ask the shim for its containers: %w", err)
	}
	for _, c := range info.Containers {
		if c.ID == d.id {
			has = true
		} else {
			others++
		}
	}
	return has, others, nil
}

// endByShim asks the shim for the end of the container. A create that is under way
// comes to its end first.
func (d *deletion) endByShim(ctx context.Context) error {
	conn, err := bootstrap.Dial(ctx, d.address)
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
	_, err = tasks.Delete(ctx, &task.DeleteRequest{ID: d.id})
	if err != nil && !errdefs.IsNotFound(errgrpc.ToNative(err)) { // somebody else's delete was first
		return fmt.Errorf("delete the container: %w", err)
	}
	// It ends if this was its last container. The answer may not arrive.
	_, _ = tasks.Shutdown(ctx, &task.ShutdownRequest{ID: d.id})
	return nil
}
