// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// busDeadline bounds everything that is asked over D-Bus.
const busDeadline = 2 * time.Second

// Facts are all that the decision rests on.
type Facts struct {
	cgroup.Facts
	// Answered says that systemd's manager answered on D-Bus in time.
	Answered bool
	// Unit is the unit that the manager says we run in; "" when it knows none,
	// or one that our own cgroup contradicts.
	Unit string
	// BusError says why Answered is false or Unit empty.
	BusError string
	// Pods are kubelet's top cgroups that have processes, at most one for each
	// driver.
	Pods []Pods
}

// Pods is a top cgroup of kubelet's.
type Pods struct {
	Driver cgroup.Driver
	Path   string
}

// podRoots are kubelet's cgroups for all pods, by the driver that makes them:
// the default ones, and those below the cgroup root that kind sets.
var podRoots = [...]Pods{
	{cgroup.Systemd, "/kubepods.slice"},
	{cgroup.Systemd, "/kubelet.slice/kubelet-kubepods.slice"},
	{cgroup.Cgroupfs, "/kubepods"},
	{cgroup.Cgroupfs, "/kubelet/kubepods"},
}

// prober looks at a host: the real one, or a directory and a function in tests.
type prober struct {
	// root is prepended to every path; "" is the real host.
	root string
	// askUnit asks systemd's manager which unit this process runs in.
	askUnit func(context.Context) (string, error)
}

func (p prober) probe(ctx context.Context) (Facts, error) {
	host, err := cgroup.Probe(p.root)
	if err != nil {
		return Facts{}, fmt.Errorf("decide on the cgroup driver: %w", err)
	}
	f := Facts{Facts: host}
	for _, r := range podRoots {
		c, err := cgroup.OpenIn(p.root, r.Path)
		if err == nil && c.Populated() && !slices.ContainsFunc(f.Pods, func(o Pods) bool { return o.Driver == r.Driver }) {
			f.Pods = append(f.Pods, r)
		}
	}
	if f.SystemdRuns() {
		p.probeManager(ctx, &f)
	}
	return f, nil
}

// probeManager asks in a goroutine, since not every step of D-Bus's handshake
// heeds a context; one that is stuck ends when its connection does.
func (p prober) probeManager(ctx context.Context, f *Facts) {
	ctx, cancel := context.WithTimeout(ctx, busDeadline)
	defer cancel()
	type answer struct {
		unit string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		unit, err := p.askUnit(ctx)
		answers <- answer{unit, err}
	}()
	select {
	case <-ctx.Done():
		f.BusError = fmt.Sprintf("no answer within %s", busDeadline)
	case a := <-answers:
		var unknown *unitUnknownError
		f.Answered = a.err == nil || errors.As(a.err, &unknown)
		if a.err != nil {
			f.BusError = a.err.Error()
			return
		}
		f.Unit, f.BusError = matchUnit(a.unit, f.Path)
	}
}

// matchUnit compares the manager's answer with our own cgroup: a manager
// outside our PID namespace, reached through a mounted bus socket, talks about
// another process. No unit is at the root of the hierarchy, so that there we are
// in a cgroup namespace that the manager's scopes would lie outside of.
func matchUnit(unit, path string) (known, problem string) {
	if path == "" || slices.Contains(strings.Split(path, "/"), unit) {
		return unit, ""
	}
	return "", fmt.Sprintf("it says %s, but our cgroup is %s", unit, path)
}

// runningPods returns the driver of the running pods, if they agree on one.
func (f Facts) runningPods() cgroup.Driver {
	if len(f.Pods) == 1 {
		return f.Pods[0].Driver
	}
	return cgroup.Unset
}

func (f Facts) podsPath(d cgroup.Driver) string {
	for _, p := range f.Pods {
		if p.Driver == d {
			return p.Path
		}
	}
	return ""
}
