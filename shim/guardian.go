// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/upgrade"
)

// guard is the old image in a process of its own while the shim becomes the new one.
// It holds all that the shim does, and goes on in its place should that die, or not
// have taken over in time. As soon as it has, guard must be gone: pipes whose ends it
// holds do not end.
func (c *command) guard(ctx context.Context, envelope, talkFD int, signals <-chan os.Signal) error {
	talk := upgrade.TalkBy(os.NewFile(uintptr(talkFD), "talk"))
	defer talk.Close()
	unix.CloseOnExec(talkFD)
	t, err := readEnvelope(envelope)
	if err != nil {
		return err
	}
	theirs, err := t.inherited.File(t.Talk)
	if err != nil {
		return err
	}
	_ = theirs.Close() // so that the end of the shim ends the talk
	why, err := await(t.PID, talk)
	if err != nil || why == "" {
		// Before the end of the talk, which tells the shim that they are closed: a
		// reading end of a client's pipe would look like a client that is there.
		return errors.Join(err, t.inherited.Close())
	}
	t.cause = fmt.Errorf("the new binary failed after it was executed (%s); the old one goes on as process %d: %w", why, os.Getpid(), errdefs.ErrAborted)
	return c.takeOver(ctx, t, signals)
}

// await returns "" when the shim has taken over as the new image, and otherwise, when
// it is dead, why it has not.
func await(pid int, talk *upgrade.Talk) (why string, err error) {
	shim, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || err == nil && os.Getppid() != pid {
		return "the old image ended before", nil
	}
	if err != nil {
		return "", fmt.Errorf("watch the shim %d: %w", pid, err)
	}
	defer unix.Close(shim)
	if err := talk.Say(upgrade.Ready); err != nil {
		return "", err
	}
	if why = grant(talk); why == "" {
		return "", nil
	}
	// After this it can confirm no more.
	if err := unix.PidfdSendSignal(shim, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return "", fmt.Errorf("end the new image: %w", err)
	}
	if err := awaitDeath(shim); err != nil {
		return "", fmt.Errorf("wait for the end of the new image: %w", err)
	}
	return why, nil
}

// grant lets the new image go on when it asks for that, or says why it cannot any
// more. One that has asked and is gone before it was granted has not gone on: it
// waits, though not for ever for a guardian that does not run.
func grant(talk *upgrade.Talk) (why string) {
	err := talk.Hear(upgrade.Confirm, takeoverTimeout)
	if err == nil {
		err = talk.Say(upgrade.Granted)
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, io.EOF), errors.Is(err, unix.EPIPE):
		return "it ended"
	}
	return "it did not take over in time"
}

// awaitDeath waits for the end of a process.
func awaitDeath(pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(fds, -1); err == nil && n > 0 {
			return nil
		} else if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}
