// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// openLog opens the bundle's log FIFO, which the daemon copies to its own log, the
// place for everything said here; -1 if there is none. It stays open.
func openLog() (int, error) {
	// Read and write: opening does not wait for the daemon, and writing does not
	// fail while the daemon is away.
	fd, err := unix.Open("log", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open the log in the bundle: %w", err)
	}
	return fd, nil
}

// setUpLog sends messages to the log FIFO, or without one to stderr.
func (c *command) setUpLog(fd int) error {
	if err := log.SetFormat(log.TextFormat); err != nil {
		return fmt.Errorf("set the log's format: %w", err)
	}
	if c.debug {
		if err := log.SetLevel("debug"); err != nil {
			return fmt.Errorf("set the log's level: %w", err)
		}
	}
	if fd >= 0 {
		log.L.Logger.SetOutput(&lossyWriter{fd: fd})
	}
	return nil
}

// lossyWriter writes to the log FIFO as long as it has room: a daemon that is
// away, or does not read, must not stop the shim.
type lossyWriter struct{ fd int }

func (w *lossyWriter) Write(p []byte) (int, error) {
	_, err := unix.Write(w.fd, p)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		return 0, err
	}
	return len(p), nil
}
