// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/typeurl/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// OOMKills has containers killed for want of memory as soon as they run, and
// holds what the daemon's events (/tasks/oom, /tasks/exit) tell of each against
// what CRI says. It is safe for concurrent use.
type OOMKills struct {
	// CRI is the daemon's.
	CRI cri.RuntimeServiceClient
	// Request asks for a busybox container by name; its command and resources are
	// overwritten.
	Request func(name string) *cri.CreateContainerRequest
	// Patience bounds one container's life.
	Patience time.Duration

	mu   sync.Mutex
	seen map[string]*death
	err  error // why there are no more events
}

// death is what was told of one container. Told is closed when an OOM kill and an
// exit were.
type death struct {
	ooms, exits int
	told        chan struct{}
	closed      bool
}

// Run has that many containers killed, some at once, and fails the test for each
// that is not told as it should be. Client is the same daemon's.
func (o *OOMKills) Run(t *testing.T, client *containerd.Client, kills int) {
	t.Helper()
	o.seen = map[string]*death{}
	messages, errs := client.EventService().Subscribe(t.Context(), `topic=="/tasks/oom"`, `topic=="/tasks/exit"`)
	go func() {
		for {
			select {
			case m := <-messages:
				event, err := typeurl.UnmarshalAny(m.Event)
				o.add(event, err)
			case err := <-errs: // also when the test has ended
				o.add(nil, errors.Join(errors.New("the events ended"), err))
				return
			}
		}
	}()
	const atOnce = 3
	begun := time.Now()
	var workers sync.WaitGroup
	for worker := range atOnce {
		workers.Go(func() {
			for n := worker; n < kills && !t.Failed(); n += atOnce {
				if err := o.killOne(t.Context(), fmt.Sprintf("oom-%d", n)); err != nil {
					t.Errorf("number %d: %v", n, err)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d kills in %v", kills, time.Since(begun).Round(time.Second))
}

// killOne makes a container that asks for twice the memory that it may have, and
// looks at how it ended.
func (o *OOMKills) killOne(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	request := o.Request(name)
	request.Config.Command = []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=48M", "count=1"}
	request.Config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 24 << 20, MemorySwapLimitInBytes: 24 << 20}
	response, err := o.CRI.CreateContainer(ctx, request)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	id := response.ContainerId
	if _, err := o.CRI.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := o.await(ctx, id); err != nil {
		return err
	}
	status, err := o.status(ctx, id)
	if err != nil {
		return err
	}
	if status.Reason != "OOMKilled" || status.ExitCode != 137 {
		return fmt.Errorf("reason %q, exit code %d", status.Reason, status.ExitCode)
	}
	if _, err := o.CRI.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	// One kill, one event: a second one would have come before the removal ended.
	if d := o.of(id); d.ooms != 1 {
		return fmt.Errorf("%d events tell of its kill", d.ooms)
	}
	return nil
}

// status asks CRI until it has heard of the exit, too.
func (o *OOMKills) status(ctx context.Context, id string) (*cri.ContainerStatus, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		response, err := o.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
		if response.Status.State == cri.ContainerState_CONTAINER_EXITED {
			return response.Status, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("after the event of its exit, CRI says %v: %w", response.Status.State, ctx.Err())
		}
	}
}

func (o *OOMKills) add(event any, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.err = err
		return
	}
	var d *death
	switch e := event.(type) {
	case *events.TaskOOM:
		d = o.ofLocked(e.ContainerID)
		d.ooms++
	case *events.TaskExit:
		d = o.ofLocked(e.ContainerID)
		d.exits++
	default:
		o.err = fmt.Errorf("neither an OOM kill nor an exit: %T", event)
		return
	}
	if d.ooms > 0 && d.exits > 0 && !d.closed {
		d.closed = true
		close(d.told)
	}
}

func (o *OOMKills) ofLocked(id string) *death {
	if o.seen[id] == nil {
		o.seen[id] = &death{told: make(chan struct{})}
	}
	return o.seen[id]
}

// of returns what was told of a container until now.
func (o *OOMKills) of(id string) death {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.ofLocked(id)
}

// await waits until a container's kill and exit were told.
func (o *OOMKills) await(ctx context.Context, id string) error {
	select {
	case <-o.of(id).told:
		return nil
	case <-ctx.Done():
	}
	d := o.of(id)
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Errorf("%d events tell of its kill and %d of its exit: %w", d.ooms, d.exits, errors.Join(ctx.Err(), o.err))
}
