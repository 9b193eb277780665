// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// oomKills says how many kills each driver has to report in a bed: all that are
// promised where the driver is the node's own, fewer of the other shape, and
// fewer again where the point is cgroup v1, whose kills `make test` counts.
func oomKills(driver string) int {
	switch {
	case bed == "hybrid":
		return 30
	case (driver == "systemd") == onSystemd():
		return 300
	}
	return 30
}

// oomDrivers are the drivers that a bed can place by, with the parent that a
// kubelet would name.
func oomDrivers() map[string]string {
	drivers := map[string]string{"cgroupfs": "/kubepods/burstable/podoom"}
	if onSystemd() {
		drivers["systemd"] = "kubepods-burstable-podoom.slice"
	}
	return drivers
}

// TestOOM: a container that the kernel kills for want of memory at once is
// reported as such, through CRI and as an event, each time: also where systemd
// removes the cgroup together with the last process.
func TestOOM(t *testing.T) {
	for driver, parent := range oomDrivers() {
		t.Run(driver, func(t *testing.T) {
			logOnFailure(t)
			begun := time.Now()
			deaths := watchDeaths(t)
			p := runPod(t, "oom-"+driver, parent)
			kills := oomKills(driver)
			const atOnce = 3
			var workers sync.WaitGroup
			for worker := range atOnce {
				workers.Go(func() {
					for n := worker; n < kills && !t.Failed(); n += atOnce {
						if err := deaths.killOne(t.Context(), p, n); err != nil {
							t.Errorf("number %d: %v", n, err)
						}
					}
				})
			}
			workers.Wait()
			t.Logf("%d kills in %v", kills, time.Since(begun).Round(time.Second))
		})
	}
}

// killOne makes a container that asks for twice the memory that it may have, and
// looks at how it ended.
func (d *deaths) killOne(ctx context.Context, p *pod, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := runtime.CreateContainer(ctx, p.request(fmt.Sprintf("oom-%d", n),
		&cri.LinuxContainerResources{MemoryLimitInBytes: 24 * mib, MemorySwapLimitInBytes: 24 * mib},
		"dd", "if=/dev/zero", "of=/dev/null", "bs=48M", "count=1"))
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	id := response.ContainerId
	if _, err := runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := d.await(ctx, id); err != nil {
		return err
	}
	status, err := exited(ctx, id)
	if err != nil {
		return err
	}
	if status.Reason != "OOMKilled" || status.ExitCode != 137 {
		return fmt.Errorf("reason %q, exit code %d", status.Reason, status.ExitCode)
	}
	if _, err := runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	// One kill, one event: a second one would have come before the removal ended.
	if ooms := d.of(id).ooms; ooms != 1 {
		return fmt.Errorf("%d events tell of its kill", ooms)
	}
	return nil
}

// deaths counts /tasks/oom and /tasks/exit by container.
type deaths struct {
	mu   sync.Mutex
	seen map[string]*death
	err  error
}

// death is what was told of one container. Told is closed when both an OOM kill
// and an exit were.
type death struct {
	ooms, exits int
	told        chan struct{}
}

// watchDeaths follows the daemon's events until the test ends.
func watchDeaths(t *testing.T) *deaths {
	d := &deaths{seen: map[string]*death{}}
	messages, errs := client.EventService().Subscribe(t.Context(), `topic=="/tasks/oom"`, `topic=="/tasks/exit"`)
	go func() {
		for {
			select {
			case m := <-messages:
				event, err := typeurl.UnmarshalAny(m.Event)
				d.add(event, err)
			case err := <-errs: // also when the test has ended
				d.add(nil, errors.Join(errors.New("the events ended"), err))
				return
			}
		}
	}()
	return d
}

func (d *deaths) add(event any, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.err = err
		return
	}
	var of *death
	switch e := event.(type) {
	case *events.TaskOOM:
		of = d.ofLocked(e.ContainerID)
		of.ooms++
	case *events.TaskExit:
		of = d.ofLocked(e.ContainerID)
		of.exits++
	default:
		d.err = fmt.Errorf("neither an OOM kill nor an exit: %T", event)
		return
	}
	if of.ooms == 1 && of.exits == 1 {
		close(of.told)
	}
}

func (d *deaths) ofLocked(id string) *death {
	if d.seen[id] == nil {
		d.seen[id] = &death{told: make(chan struct{})}
	}
	return d.seen[id]
}

// of returns what was told of a container until now.
func (d *deaths) of(id string) death {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *d.ofLocked(id)
}

// await waits until a container's kill and exit were told.
func (d *deaths) await(ctx context.Context, id string) error {
	select {
	case <-d.of(id).told:
		return nil
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		of := d.ofLocked(id)
		return fmt.Errorf("after %v, %d events tell of its kill and %d of its exit: %w", patience, of.ooms, of.exits, errors.Join(ctx.Err(), d.err))
	}
}
