// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"os"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// unitUnknownError is an answer of the manager: this process is in no unit.
type unitUnknownError struct{ err error }

func (e *unitUnknownError) Error() string { return e.err.Error() }
func (e *unitUnknownError) Unwrap() error { return e.err }

// askManager asks systemd, over the system bus or its private socket, which
// unit this process runs in.
func askManager(ctx context.Context) (string, error) {
	conn, err := systemd.NewWithContext(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	unit, err := conn.GetUnitNameByPID(ctx, uint32(os.Getpid()))
	var reply dbus.Error
	if errors.As(err, &reply) && reply.Name == "org.freedesktop.systemd1.NoUnitForPID" {
		return "", &unitUnknownError{err}
	}
	return unit, err
}
