// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// pattern is an endless stream of bytes that nothing else is like.
func pattern(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// writePattern writes n bytes of a pattern in pieces of that size.
func writePattern(w io.Writer, seed byte, n, piece int) error {
	from, buf := pattern(seed), make([]byte, piece)
	for n > 0 {
		b := buf[:min(n, piece)]
		if _, err := io.ReadFull(from, b); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

// checkPattern reads r to its end and compares it with n bytes of a pattern.
func checkPattern(r io.Reader, seed byte, n, piece int) error {
	want, got := bufio.NewReaderSize(pattern(seed), 1<<16), make([]byte, piece)
	at, expected := 0, make([]byte, piece)
	for {
		k, err := r.Read(got)
		if _, err := io.ReadFull(want, expected[:k]); err != nil {
			return err
		}
		for j := range k {
			if got[j] != expected[j] {
				return fmt.Errorf("byte %d of %d is wrong", at+j, n)
			}
		}
		at += k
		switch {
		case at > n:
			return fmt.Errorf("more than the %d bytes", n)
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, unix.EIO): // EIO: a terminal's
			if at != n {
				return fmt.Errorf("the end came after %d of %d bytes", at, n)
			}
			return nil
		default:
			return err
		}
	}
}

// adopter is the test's Children for a resumed IO.
type adopter struct{ osChildren }

var errNotOurs = errors.New("it is no child of this process: exit status unknown")

func (adopter) Adopt(_ int, pidfd *os.File) (func() error, error) {
	return func() error {
		conn, err := pidfd.SyscallConn()
		if err != nil {
			return err
		}
		var waitErr error
		var info unix.Siginfo
		err = conn.Control(func(fd uintptr) {
			waitErr = unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED, nil)
		})
		if waitErr == unix.ECHILD {
			return errNotOurs
		}
		return errors.Join(err, waitErr)
	}, nil
}

// dupFile stands for a descriptor that has been carried over: another number of
// the same open file.
func dupFile(fd int) (*os.File, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dup), "carried"), nil
}

// dupEnd gives the test one of the process's ends, as the OCI runtime would.
func dupEnd(t testing.TB, f *os.File) *os.File {
	t.Helper()
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var dup *os.File
	if ctlErr := conn.Control(func(fd uintptr) { dup, err = dupFile(int(fd)) }); ctlErr != nil || err != nil {
		t.Fatal(ctlErr, err)
	}
	return dup
}

// move is a way to lay an IO down and take it up again.
type move func(testing.TB, *IO) *IO

var moves = map[string]move{
	"unpark": func(t testing.TB, i *IO) *IO {
		mustPark(t, i)
		i.Unpark()
		return i
	},
	"resume": func(t testing.TB, i *IO) *IO {
		next := resumed(t, i)
		if err := next.Go(); err != nil {
			t.Error(err)
		}
		return next
	},
}

func mustPark(t testing.TB, i *IO) State {
	t.Helper()
	s, err := i.Park(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// resumed parks i and makes another IO of its State, which has not begun.
func resumed(t testing.TB, i *IO) *IO {
	t.Helper()
	s := throughJSON(t, mustPark(t, i))
	o := i.opts
	o.Children = adopter{}
	next, err := Resume(s, dupFile, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Abandon(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, next) })
	if again := mustPark(t, next); !sameButNumbers(again, s) {
		t.Errorf("resumed from %+v\n and then saved %+v", s, again)
	}
	return next
}

// throughJSON writes and reads a State.
func throughJSON(t testing.TB, s State) (back State) {
	t.Helper()
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// sameButNumbers compares two States, but not the numbers of descriptors.
func sameButNumbers(a, b State) bool {
	plain := func(s State) []byte {
		s.Descriptors = slices.Clone(s.Descriptors)
		for n := range s.Descriptors {
			s.Descriptors[n].FD = 0
		}
		text, err := json.Marshal(s)
		if err != nil {
			return nil
		}
		return text
	}
	return bytes.Equal(plain(a), plain(b))
}

// shrinkPipe makes f, an end of a pipe, hold one page only.
func shrinkPipe(t testing.TB, f *os.File) {
	t.Helper()
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sizeErr error
	if err := conn.Control(func(fd uintptr) { _, sizeErr = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096) }); err != nil || sizeErr != nil {
		t.Fatal(err, sizeErr)
	}
}

// makeRaw makes a terminal that passes every byte as it is.
func makeRaw(t testing.TB, tty *os.File) {
	t.Helper()
	cmd := exec.Command("stty", "raw", "-echo")
	cmd.Stdin = tty
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("stty: %v: %s", err, out)
	}
}
