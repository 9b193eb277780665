// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/containerd/log"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"
)

// beInit is what quoind does as process 1 of a PID namespace, as the only program
// of a container: it runs itself as a child and does an init's work beside it.
// Shims are orphans of quoind's, and process 1 has to reap them; the daemon
// itself cannot, since it does not know which children its libraries wait for.
//
// It passes signals on, and ends as the child ends: with its exit code, or with
// 128 and the number of the signal that killed it.
func beInit(ctx context.Context) error {
	// From here on, so that no signal is lost before the child is there.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	defer signal.Stop(signals)
	child, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return fmt.Errorf("run as process 1: start the daemon: %w", err)
	}
	pid := child.Pid
	_ = child.Release() // it is reaped below, with all others
	log.G(ctx).WithField("pid", pid).Info("quoind is process 1: the daemon is its child, and it reaps what is orphaned")
	for s := range signals {
		switch s {
		case unix.SIGCHLD:
			if code, ended := reap(pid); ended {
				return cli.Exit("", code)
			}
		case unix.SIGURG, unix.SIGPIPE: // the Go runtime's own
		default:
			if number, ok := s.(unix.Signal); ok {
				_ = unix.Kill(pid, number) // it may just have ended
			}
		}
	}
	return errors.New("run as process 1: signals ended")
}

// reap takes what has exited, until nothing is left or the daemon is among it.
func reap(daemon int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid == 0:
			return 0, false
		case pid != daemon:
		case status.Signaled():
			return 128 + int(status.Signal()), true
		case status.Exited():
			return status.ExitStatus(), true
		}
	}
}
