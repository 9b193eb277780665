// SPDX-License-Identifier: Apache-2.0

package shims

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/control"
)

// Process is what the kernel says of a shim that does not say it itself.
type Process struct {
	PID int
	// Stopped says that a signal has stopped it (SIGSTOP), or a debugger.
	Stopped bool
	Memory  control.Memory
	Started time.Time
}

// FindProcess finds the process of a shim by the first processes of its
// containers, whose parent it is. false means that it has none, or that they
// have ended.
func (s Shim) FindProcess() (Process, bool) {
	for _, b := range s.Bundles {
		// The pid file is named alike by runc's shim.
		text, err := os.ReadFile(filepath.Join(b.Path, "init.pid"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid <= 1 {
			continue
		}
		child, ok := stat(pid)
		if !ok {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child.parent))
		if err != nil || !strings.HasPrefix(string(name), "containerd-shim") {
			continue // the pid is another's by now
		}
		shim, ok := stat(child.parent)
		if !ok {
			continue
		}
		return Process{
			PID:     child.parent,
			Stopped: shim.state == "T" || shim.state == "t",
			Memory:  memoryOf(child.parent),
			Started: startTime(shim.started),
		}, true
	}
	return Process{}, false
}

// stats are fields of proc_pid_stat(5).
type stats struct {
	state   string // a letter
	parent  int
	started uint64 // in clock ticks since boot
}

func stat(pid int) (s stats, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, false
	}
	// The name is in parentheses and may hold any byte, parentheses too; what
	// follows are the fields from the third on.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return s, false
	}
	s.state = fields[0]
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return s, false
	}
	s.started, err = strconv.ParseUint(fields[19], 10, 64)
	return s, err == nil
}

// userHz is the unit of times in /proc, which the kernel keeps at 100 whatever
// its own clock does.
const userHz = 100

func startTime(ticks uint64) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}
	}
	age := time.Duration(now.Nano()) - time.Duration(ticks)*(time.Second/userHz)
	return time.Now().Add(-age)
}

func memoryOf(pid int) (m control.Memory) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			m.RSS = kb << 10
		case "RssAnon":
			m.Private = kb << 10
		}
	}
	return m
}

// Names of annotations by which CRI names a pod.
const (
	podNameAnnotation      = "io.kubernetes.cri.sandbox-name"
	podNamespaceAnnotation = "io.kubernetes.cri.sandbox-namespace"
)

// Identity is what a shim serves.
type Identity struct {
	// ID of the group: of the sandbox in a pod, of the only container else.
	ID string
	// Pod is "namespace/name" for a pod of Kubernetes.
	Pod string
}

// Identify reads what a shim serves from the specs in its bundles.
func (s Shim) Identify() Identity {
	who := Identity{ID: s.Bundles[0].ID}
	for _, entry := range s.Bundles {
		b, err := bundle.Open(entry.Path)
		if err != nil {
			continue // being removed
		}
		facets, err := b.Facets()
		if err != nil {
			continue
		}
		who.ID = bootstrap.Group(facets.Annotations, who.ID)
		if name := facets.Annotations[podNameAnnotation]; name != "" {
			who.Pod = facets.Annotations[podNamespaceAnnotation] + "/" + name
		}
		break
	}
	return who
}
