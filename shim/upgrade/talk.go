// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// A Word is what one end of a talk says.
type Word byte

const (
	// Ready is the guardian's: it has all that it needs to take over.
	Ready Word = 'r'
	// Confirm is the new image's: it has all that it needs, and has done nothing yet
	// that cannot be undone.
	Confirm Word = 'c'
	// Granted is the guardian's answer to it, and its last word: it will not take over.
	// Without it the new image must not go on, for the guardian may be about to.
	Granted Word = 'g'
)

// Talk is one end of the talk between an image and its guardian. What is said at
// the one end is heard at the other, and so is the end of whoever held it.
type Talk struct{ f *os.File }

// NewTalk makes both ends, close-on-exec.
func NewTalk() (image, guardian *Talk, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the talk with the guardian: %w", os.NewSyscallError("socketpair", err))
	}
	return TalkBy(os.NewFile(uintptr(fds[0]), "talk")), TalkBy(os.NewFile(uintptr(fds[1]), "talk")), nil
}

// TalkBy is the end that a file is.
func TalkBy(f *os.File) *Talk { return &Talk{f} }

// FD is the number of its descriptor.
func (t *Talk) FD() (int, error) { return Number(t.f) }

// Close hangs up.
func (t *Talk) Close() { _ = t.f.Close() }

// Say says a word. Nobody may be there to hear it.
func (t *Talk) Say(w Word) error {
	if _, err := t.f.Write([]byte{byte(w)}); err != nil {
		return fmt.Errorf("say %q: %w", w, err)
	}
	return nil
}

// Hear waits for a word for so long at most. io.EOF says that the other end is gone;
// another word is errdefs.ErrInvalidArgument.
func (t *Talk) Hear(w Word, within time.Duration) error {
	if err := t.f.SetReadDeadline(time.Now().Add(within)); err != nil {
		return fmt.Errorf("wait for %q: %w", w, err)
	}
	var b [1]byte
	_, err := t.f.Read(b[:])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return io.EOF
	case err != nil:
		return fmt.Errorf("wait for %q: %w", w, err)
	case b[0] != byte(w):
		return fmt.Errorf("%q was said, not %q: %w", b[0], w, errdefs.ErrInvalidArgument)
	}
	return nil
}
