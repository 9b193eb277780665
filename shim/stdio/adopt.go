// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Adopter is a Children that can also wait for programs which it has not
// started itself. Resume needs one when the State has a running logger.
type Adopter interface {
	Children
	// Adopt takes over the program pid, of which pidfd (non-blocking, the IO's)
	// is a descriptor. From then on nobody else may reap it. It is a child of
	// this process when an earlier image of this process had started it, and
	// otherwise it is not; it may be dead already.
	//
	// wait is called once, when pidfd has told that the program has ended. It
	// reaps it (waitid with P_PIDFD is exact) and returns what exec.Cmd.Wait would
	// say: nil after an exit with status 0. It does not block; for what is no
	// child it returns an error that says that the status is not known.
	Adopt(pid int, pidfd *os.File) (wait func() error, err error)
}

// resumeLogger takes over the logging program.
func (i *IO) resumeLogger(s State, p plan) (err error) {
	if s.Logger == nil {
		return nil
	}
	l := newLogger(i, p.stdout.path)
	l.pid = s.Logger.PID
	close(l.ready)
	i.logger = l
	if s.Logger.Ended {
		return i.resumeDroppers(s.Logger)
	}
	adopter, ok := i.opts.Children.(Adopter)
	if !ok {
		return fmt.Errorf("logger %s: there is nobody to adopt it: %w", l.path, errdefs.ErrFailedPrecondition)
	}
	pidfd := i.fds.get(loggerPidfd)
	if err := checkPidfd(pidfd, l.pid); err != nil {
		return fmt.Errorf("logger %s: %w", l.path, err)
	}
	if l.reap, err = adopter.Adopt(l.pid, pidfd); err != nil {
		return fmt.Errorf("adopting logger %s: %w", l.path, err)
	}
	i.crew.add(l)
	return nil
}

// resumeDroppers goes on with what a dead logger left.
func (i *IO) resumeDroppers(s *LoggerState) error {
	if s.Error != "" {
		i.logger.err = errors.New(s.Error)
	}
	close(i.logger.ended)
	for _, name := range s.Dropping {
		slot, _ := slotByName(name) // check knows it
		if err := i.dropOn(slot, i.fds.get(slot)); err != nil {
			return err
		}
	}
	return nil
}

// checkPidfd makes sure that f is a pidfd of pid, or of a process that is gone.
// Where pidfds have no inodes of their own (before Linux 6.9) nothing else tells
// them apart, and the logger is one to be killed in the end.
func checkPidfd(f *os.File, pid int) error {
	is, err := identify(loggerPidfd.String(), f)
	if err != nil {
		return err
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", is.FD))
	if err != nil {
		return fmt.Errorf("looking at its pidfd: %w", err)
	}
	for line := range strings.Lines(string(info)) {
		value, ok := strings.CutPrefix(line, "Pid:")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err != nil || n != pid && n != -1 {
			return invalid("descriptor %d is of process %s, not of %d", is.FD, strings.TrimSpace(value), pid)
		}
		return nil
	}
	return invalid("descriptor %d is no pidfd", is.FD)
}
