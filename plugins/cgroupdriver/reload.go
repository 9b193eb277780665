// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/log"
	"github.com/godbus/dbus/v5"
)

const (
	managerName      = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = managerName + ".Manager"

	// reloadDeadline bounds how long a manager that has just read its units
	// again may take until it answers.
	reloadDeadline = time.Minute
	// reconnectAfter is the time between a lost connection and the next.
	reconnectAfter = 5 * time.Second
)

// followReloads calls after at once, and each time that systemd has read its
// units again, until ctx ends. While the bus is away it misses nothing: after is
// called as soon as it is back.
func followReloads(ctx context.Context, after func(context.Context)) {
	for {
		err := listen(ctx, after)
		if ctx.Err() != nil {
			return
		}
		log.G(ctx).WithError(err).Warnf("not told when systemd reads its units again; trying again in %s", reconnectAfter)
		select {
		case <-ctx.Done():
			return
		case <-time.After(reconnectAfter):
		}
	}
}

// listen follows on one connection; it returns when that ends.
func listen(ctx context.Context, after func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The connection ends with its context, whatever it is waiting for.
	setup := time.AfterFunc(busDeadline, cancel)
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("Reloading"))
	if err != nil {
		return fmt.Errorf("ask the bus for systemd's signals: %w", err)
	}
	manager := conn.Object(managerName, managerPath)
	if err := manager.CallWithContext(ctx, managerInterface+".Subscribe", 0).Err; err != nil {
		return fmt.Errorf("ask systemd for its signals: %w", err)
	}
	if !setup.Stop() {
		return context.DeadlineExceeded
	}
	after(ctx)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s, ok := <-signals:
			if !ok {
				return errors.New("the connection to the bus ended")
			}
			if !reloaded(s) {
				continue
			}
			if err := settled(ctx, manager); err != nil {
				return err
			}
			after(ctx)
		}
	}
}

// reloaded recognizes the signal at the end of a reload; one at its beginning
// has the argument true.
func reloaded(s *dbus.Signal) bool {
	if s.Name != managerInterface+".Reloading" || len(s.Body) != 1 {
		return false
	}
	active, ok := s.Body[0].(bool)
	return ok && !active
}

// settled waits until systemd has written the cgroups: that is queued when it
// sends the signal, and the queue comes before the next message.
func settled(ctx context.Context, manager dbus.BusObject) error {
	ctx, cancel := context.WithTimeout(ctx, reloadDeadline)
	defer cancel()
	if err := manager.CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0).Err; err != nil {
		return fmt.Errorf("systemd does not answer after it read its units: %w", err)
	}
	return nil
}

// keep has a keeper pass at once and after each reload, until ctx ends.
func (k *keeper) keep(ctx context.Context) {
	followReloads(ctx, func(ctx context.Context) {
		restored, err := k.pass()
		if len(restored) > 0 {
			log.G(ctx).WithField("limits", restored).Info("put back limits that systemd had forgotten")
		}
		if err != nil {
			log.G(ctx).WithError(err).Warn("limits that systemd has forgotten cannot be put back")
		}
	})
}
