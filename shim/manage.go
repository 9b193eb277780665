// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/control"
)

// manager serves the control service. What it tells it gathers when it is asked:
// a shim that nobody asks pays nothing for it.
type manager struct {
	server    *server
	namespace string
	id        string
}

// Info describes the shim.
func (m *manager) Info(context.Context) (control.Info, error) {
	m.server.thrift.busy(false)
	process, err := ownProcess()
	if err != nil {
		return control.Info{}, fmt.Errorf("describe the shim: %w: %w", err, errdefs.ErrInternal)
	}
	info := control.Info{
		Version:      config.Version,
		Revision:     config.Revision,
		PID:          os.Getpid(),
		Namespace:    m.namespace,
		ID:           m.id,
		Started:      m.server.started,
		Memory:       process.memory,
		Goroutines:   runtime.NumGoroutine(),
		Threads:      process.threads,
		OpenFiles:    process.files,
		Orphans:      m.server.reaper.Orphans(),
		EventsQueued: m.server.publisher.Stats().Queued,
		Totals:       m.server.totals(),
	}
	for _, c := range m.server.set.Summaries() {
		info.Containers = append(info.Containers, control.Container{
			ID: c.ID, Bundle: c.Bundle, PID: c.Pid, Status: c.Status.String(), Execs: c.Execs,
		})
	}
	return info, nil
}

// Upgrade makes the shim go on as another binary.
func (m *manager) Upgrade(ctx context.Context, r control.UpgradeRequest) (control.UpgradeResponse, error) {
	return m.server.upgrades.Upgrade(ctx, r)
}

// totals are the counts of all parts of the shim. They are what an upgrade hands
// on to newMeter; the parts' own begin at zero in the new image.
func (s *server) totals() control.Totals {
	t := s.meter.snapshot()
	reaps, events := s.reaper.Stats(), s.publisher.Stats()
	t.Add(control.Totals{Counters: map[string]uint64{
		control.Reaped:          reaps.Exits,
		control.StrangersReaped: reaps.Strangers,
		control.EventsDelivered: events.Delivered,
		control.EventsResent:    events.Resent,
		control.EventsDropped:   events.Dropped,
	}})
	return t
}

// process is what the kernel says of this one.
type process struct {
	memory  control.Memory
	threads int
	files   int
}

func ownProcess() (process, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return process{}, err
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return process{}, err
	}
	p := process{files: len(files) - 1} // one of them is the directory's
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch name {
		case "VmRSS", "RssAnon", "Threads":
		default:
			continue
		}
		v, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return process{}, fmt.Errorf("/proc/self/status: %s: %w", name, err)
		}
		switch name {
		case "VmRSS":
			p.memory.RSS = v << 10
		case "RssAnon":
			p.memory.Private = v << 10
		case "Threads":
			p.threads = int(v)
		}
	}
	return p, nil
}
