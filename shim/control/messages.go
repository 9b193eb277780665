// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/anypb"
)

// Info is a shim as it was at one moment.
type Info struct {
	// Version and Revision are the build's, as package config has them.
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	// PID in the PID namespace of the shim.
	PID int `json:"pid"`
	// Namespace is containerd's.
	Namespace string `json:"namespace"`
	// ID is that of the container the shim was started for: the sandbox, in a pod.
	ID string `json:"id"`
	// Started is when the shim began to serve; an upgrade does not change it.
	Started time.Time `json:"started"`
	// Containers are sorted by id.
	Containers []Container `json:"containers"`
	Memory     Memory      `json:"memory"`
	Goroutines int         `json:"goroutines"`
	// Threads of the process, as the kernel counts them.
	Threads int `json:"threads"`
	// OpenFiles are its descriptors.
	OpenFiles int `json:"openFiles"`
	// Orphans are adopted children that nobody waits for, dead ones included
	// until they are reaped.
	Orphans int `json:"orphans"`
	// EventsQueued wait for the daemon.
	EventsQueued int    `json:"eventsQueued"`
	Totals       Totals `json:"totals"`
}

// Container is one that the shim serves.
type Container struct {
	ID     string `json:"id"`
	Bundle string `json:"bundle"`
	// PID of the init; 0 while it is being created.
	PID int `json:"pid"`
	// Status as the Task API names it, in lower case.
	Status string `json:"status"`
	// Execs that were not deleted yet.
	Execs int `json:"execs"`
}

// Memory of the process, in bytes.
type Memory struct {
	// RSS is what it has in memory, pages shared with other shims included.
	RSS uint64 `json:"rss"`
	// Private is what it alone has: its anonymous pages.
	Private uint64 `json:"private"`
}

// UpgradeRequest asks a shim to go on as another binary.
type UpgradeRequest struct {
	// Path of the binary, absolute; empty means what is now at the path of the one
	// that the shim runs.
	Path string `json:"path"`
	// Deadline is how long the shim may try to come to rest; 0 means its default.
	Deadline time.Duration `json:"deadline,omitempty"`
}

// UpgradeResponse is what the new binary answers.
type UpgradeResponse struct {
	// PID of the shim, which an upgrade does not change.
	PID int `json:"pid"`
	// From and To are the old build and the new one.
	From Build `json:"from"`
	To   Build `json:"to"`
}

// Build names a build of the shim.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
}

// typePrefix begins the type URLs of the messages.
const typePrefix = "quoin.shim.v1."

// message is what this package sends.
type message interface {
	Info | UpgradeRequest | UpgradeResponse | empty
}

// empty is the request of Info.
type empty struct{}

func typeURL[M message]() string {
	var m M
	switch any(m).(type) {
	case Info:
		return typePrefix + "Info"
	case UpgradeRequest:
		return typePrefix + "UpgradeRequest"
	case UpgradeResponse:
		return typePrefix + "UpgradeResponse"
	}
	return typePrefix + "InfoRequest"
}

func encode[M message](m M) (*anypb.Any, error) {
	value, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w: %w", typeURL[M](), err, errdefs.ErrInternal)
	}
	return &anypb.Any{TypeUrl: typeURL[M](), Value: value}, nil
}

// decode returns errdefs.ErrInvalidArgument for what is no message of the type.
func decode[M message](a *anypb.Any) (m M, err error) {
	if a.GetTypeUrl() != typeURL[M]() {
		return m, fmt.Errorf("the message is %q, not %s: %w", a.GetTypeUrl(), typeURL[M](), errdefs.ErrInvalidArgument)
	}
	if err := json.Unmarshal(a.GetValue(), &m); err != nil {
		return m, fmt.Errorf("decode %s: %w: %w", typeURL[M](), err, errdefs.ErrInvalidArgument)
	}
	return m, nil
}
