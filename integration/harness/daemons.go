// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"slices"
	"sync"
	"testing"
)

// registry knows the daemons of the package, those that tests share and all of
// them, and the servers that tests started, so that their processes are told
// from what is left behind.
var registry struct {
	mu      sync.Mutex
	shared  map[string]*Daemon
	all     []*Daemon
	servers []int
}

// Expect says that a process is the test's own and not left behind.
func Expect(pid int) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.servers = append(registry.servers, pid)
}

func expected() []int {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return slices.Clone(registry.servers)
}

// Shared returns the package's daemon of this spec, started on first use and
// stopped after the last test.
func Shared(t testing.TB, spec Spec) *Daemon {
	t.Helper()
	d, err := sharedDaemon(spec)
	if err != nil {
		t.Fatalf("start %s: %v\n%s", spec.Kind, err, d.LogTail(40))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", d.Name, d.LogTail(30))
		}
	})
	return d
}

func sharedDaemon(spec Spec) (*Daemon, error) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if d := registry.shared[spec.name()]; d != nil {
		return d, nil
	}
	d, err := newDaemon(spec)
	if err != nil {
		return d, err
	}
	if err := d.start(); err != nil {
		return d, err
	}
	if registry.shared == nil {
		registry.shared = map[string]*Daemon{}
	}
	registry.shared[spec.name()] = d
	registry.all = append(registry.all, d)
	return d, nil
}

func register(d *Daemon) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.all = append(registry.all, d)
}

func sharedDaemons() []*Daemon {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	daemons := make([]*Daemon, 0, len(registry.shared))
	for _, d := range registry.shared {
		daemons = append(daemons, d)
	}
	return daemons
}

func runningDaemons() []*Daemon {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(registry.all), func(d *Daemon) bool { return !d.running() })
}
