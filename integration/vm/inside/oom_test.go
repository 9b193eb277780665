// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// oomEvents counts /tasks/oom by container.
type oomEvents struct {
	mu   sync.Mutex
	seen map[string]int
	err  error
}

func watchOOM(t *testing.T) *oomEvents {
	o := &oomEvents{seen: map[string]int{}}
	messages, errs := client.EventService().Subscribe(t.Context(), `topic=="/tasks/oom"`)
	go func() {
		for {
			select {
			case m := <-messages:
				ev, err := typeurl.UnmarshalAny(m.Event)
				o.mu.Lock()
				if oom, ok := ev.(*events.TaskOOM); ok {
					o.seen[oom.ContainerID]++
				} else {
					o.err = fmt.Errorf("not an OOM event: %T, %w", ev, err)
				}
				o.mu.Unlock()
			case <-errs: // the test has ended, or the count below tells
				return
			}
		}
	}()
	return o
}

func (o *oomEvents) of(id string) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[id], o.err
}

// oomKills is how many kills each driver has to report. Natively it would be
// three hundred; one takes more than a second on an emulated processor.
const oomKills = 60

// TestOOM: a container that the kernel kills for want of memory at once is
// reported as such, through CRI and as an event, each time: also where systemd
// removes the cgroup together with the last process.
func TestOOM(t *testing.T) {
	for _, tc := range []struct{ name, parent string }{
		{"systemd", "kubepods-burstable-podoom.slice"},
		{"cgroupfs", "/kubepods/burstable/podoom"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			logOnFailure(t)
			begun := time.Now()
			o := watchOOM(t)
			p := runPod(t, "oom-"+tc.name, tc.parent)
			var workers sync.WaitGroup
			for worker := range 2 {
				workers.Go(func() {
					for n := worker; n < oomKills && !t.Failed(); n += 2 {
						o.killOne(t, p, n)
					}
				})
			}
			workers.Wait()
			t.Logf("%d kills in %v", oomKills, time.Since(begun).Round(time.Second))
		})
	}
}

func (o *oomEvents) killOne(t *testing.T, p *pod, n int) {
	response, err := runtime.CreateContainer(t.Context(), p.request(fmt.Sprintf("oom-%d", n),
		&cri.LinuxContainerResources{MemoryLimitInBytes: 32 * mib, MemorySwapLimitInBytes: 32 * mib},
		"dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"))
	if err != nil {
		t.Errorf("create number %d: %v", n, err)
		return
	}
	id := response.ContainerId
	if _, err := runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id}); err != nil {
		t.Errorf("start number %d: %v", n, err)
		return
	}
	status, err := exited(t.Context(), id)
	if err != nil {
		t.Errorf("number %d: %v", n, err)
		return
	}
	if status.Reason != "OOMKilled" || status.ExitCode != 137 {
		t.Errorf("number %d: reason %q, exit code %d", n, status.Reason, status.ExitCode)
	}
	// The event may be on its way still.
	if err := poll(func() string {
		switch seen, err := o.of(id); {
		case err != nil:
			return err.Error()
		case seen == 0:
			return "no event"
		}
		return ""
	}); err != nil {
		t.Errorf("number %d: %v", n, err)
	}
	if seen, _ := o.of(id); seen > 1 {
		t.Errorf("number %d: %d events", n, seen)
	}
	if _, err := runtime.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Errorf("remove number %d: %v", n, err)
	}
}
