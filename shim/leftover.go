// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/quoin-io/quoin/shim/events"
)

// tellEvents hands the daemon what the dead shim has left to be told, in order, and
// then the exits of execs that nobody has told. The exit of a container's init is
// not among it: containerd tells that itself, and its deletion, from the answer to
// this delete.
func (d *deletion) tellEvents(ctx context.Context) error {
	address := os.Getenv("TTRPC_ADDRESS")
	err := d.tellLeftover(ctx, address)
	for _, e := range d.execs {
		if e.exit.Pid == 0 {
			continue
		}
		exit := &eventtypes.TaskExit{
			ContainerID: d.id,
			ID:          e.birth.Exec,
			Pid:         uint32(e.exit.Pid),
			ExitStatus:  uint32(e.exit.Status),
			ExitedAt:    timestamppb.New(e.exit.At),
		}
		if ferr := events.Forward(ctx, address, d.namespace, events.TopicExit, exit, e.exit.At); ferr != nil {
			return errors.Join(err, ferr)
		}
	}
	return err
}

func (d *deletion) tellLeftover(ctx context.Context, address string) error {
	dir := d.birth.Spool
	if dir == "" {
		dir = d.bundle.Path()
	}
	l, err := events.OpenLeftover(dir)
	if errdefs.IsNotFound(err) || errdefs.IsUnavailable(err) {
		// All was told; or the shim lives and tells it, or another delete of its pod.
		return nil
	}
	if l == nil {
		return err
	}
	defer l.Close()
	_, derr := l.Deliver(ctx, address, toldByDaemon(l.Events()))
	return errors.Join(err, derr)
}

// toldByDaemon chooses the events that containerd makes up itself when a shim dies:
// the exit and the deletion of each container that it knows of. One that the shim
// has deleted is known no more.
func toldByDaemon(left []events.Event) func(events.Event) bool {
	deleted := map[string]bool{}
	for _, e := range left {
		if ev := (&eventtypes.TaskDelete{}); e.Topic == events.TopicDelete && decodeEvent(e, ev) == nil {
			deleted[ev.ContainerID] = true
		}
	}
	return func(e events.Event) bool {
		ev := &eventtypes.TaskExit{}
		if e.Topic != events.TopicExit || decodeEvent(e, ev) != nil {
			return false
		}
		return ev.ID == ev.ContainerID && !deleted[ev.ContainerID]
	}
}

func decodeEvent(e events.Event, into proto.Message) error {
	if err := proto.Unmarshal(e.Value, into); err != nil {
		return fmt.Errorf("decode the event %s: %w: %w", e.Topic, err, errdefs.ErrDataLoss)
	}
	return nil
}
