// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
)

// How long shims have to answer when the daemon starts: at first, and once those
// that were stopped go on. Together it is containerd's own limit for one shim; each
// that is late adds something, so that a node that is merely slow loses none.
const (
	firstWord = time.Second
	lastWord  = 4 * time.Second
	perShim   = 20 * time.Millisecond
)

// wake looks for shims that do not answer, before containerd loads them, two or
// so at a time, waits 5 seconds for each, and ends the containers of those that
// are late. Here all are asked at once. One that was stopped is told to go on:
// nobody stops a shim to have its pod ended. Of one that does not answer then the
// socket is removed, so that containerd, which is about to give it up, need not
// wait for it again. It returns how many were given up.
func wake(ctx context.Context, state string, first, last time.Duration) int {
	found, err := shims.Find(state)
	if err != nil && len(found) == 0 {
		return 0 // nothing was ever run; what cannot be read containerd tells
	}
	stuck := late(shims.Ask(ctx, found, first))
	if len(stuck) == 0 {
		return 0
	}
	for _, s := range stuck {
		switch resumed, err := resume(s); {
		case err != nil:
			logOf(ctx, s).WithError(err).Warn("the shim does not answer")
		case resumed:
			logOf(ctx, s).Warn("the shim does not answer: it was stopped, and is told to go on")
		}
	}
	givenUp := late(shims.Ask(ctx, stuck, last+time.Duration(len(stuck))*perShim))
	for _, s := range givenUp {
		logOf(ctx, s).Error("the shim does not answer and is given up: its containers are ended")
		if err := removeSocket(s.Address); err != nil {
			logOf(ctx, s).WithError(err).Warn("giving up a shim")
		}
	}
	return len(givenUp)
}

func logOf(ctx context.Context, s shims.Shim) *log.Entry {
	return log.G(ctx).WithField("namespace", s.Namespace).WithField("id", s.Bundles[0].ID).WithField("address", s.Address)
}

// late are the shims that were connected to and did not answer.
func late(reports []shims.Report) []shims.Shim {
	var late []shims.Shim
	for _, r := range reports {
		if r.Status == shims.Stuck {
			late = append(late, r.Shim)
		}
	}
	return late
}

// resume continues a shim that is stopped, and says so.
func resume(s shims.Shim) (bool, error) {
	p, ok := s.FindProcess()
	if !ok {
		return false, nil
	}
	// The pidfd is of the process that is looked at, whatever becomes of its pid.
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false, fmt.Errorf("continue the shim %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if again, ok := s.FindProcess(); !ok || again.PID != p.PID || !again.Stopped {
		return false, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0); err != nil {
		return false, fmt.Errorf("continue the shim %d: %w", p.PID, err)
	}
	return true, nil
}

// removeSocket removes a socket that nobody answers at, and nothing else.
func removeSocket(address string) error {
	path := strings.TrimPrefix(address, "unix://")
	switch st, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove the shim's socket: %w", err)
	case st.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("remove the shim's socket: %s is none", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the shim's socket: %w", err)
	}
	return nil
}
