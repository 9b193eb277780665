// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestMoveALogger(t *testing.T) {
	for _, scheme := range []string{"binary", "binary-v2"} {
		t.Run(scheme, func(t *testing.T) {
			byEachMove(t, func(t *testing.T, move move) {
				uri, file := loggerURI(t, scheme, "logger-copy")
				i := mustOpen(t, Streams{Stdout: uri}, testOptions(t))
				i = move(t, i)
				cmd := start(t, i, countTo(10000, "l")+"; echo oops >&2")
				for range 3 {
					i = move(t, i)
				}
				waitFor(t, cmd)
				mustDrain(t, i)
				i = move(t, i)
				mustClose(t, i)
				if got, want := readLog(t, file), lines("l", 10000)+"stderr: oops\n"; !strings.HasSuffix(got, want) {
					t.Errorf("%d bytes, want %d", len(got), len(want))
				}
			})
		})
	}
}

func TestALoggerDiesAndIsMoved(t *testing.T) {
	for _, when := range []string{"before", "between", "after"} {
		for _, terminal := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, terminal=%t", when, terminal), func(t *testing.T) {
				byEachMove(t, func(t *testing.T, move move) { loggerDies(t, move, when, terminal) })
			})
		}
	}
}

// loggerDies kills a logger that reads nothing, around a move. The process must
// not notice.
func loggerDies(t *testing.T, move move, when string, terminal bool) {
	uri, _ := loggerURI(t, "binary", "logger-stubborn")
	in := mkfifo(t, "in")
	i := mustOpen(t, Streams{Stdin: in, Stdout: uri, Terminal: terminal}, testOptions(t))
	script := "head -c 1000000 /dev/zero; read line; head -c 1000000 /dev/zero"
	run := start
	if terminal {
		run = startOnTerminal
	}
	cmd := run(t, i, script)
	pid := i.logger.pid
	kill := func(now string) {
		if now == when {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	ended := func() bool {
		select {
		case <-i.logger.ended:
			return true
		default:
			return false
		}
	}
	kill("before")
	if when == "before" {
		eventually(t, "the logger's end is known", ended)
	}
	s := mustPark(t, i)
	kill("between")
	if s.Logger.Ended != (when == "before") {
		t.Errorf("ended: %t", s.Logger.Ended)
	}
	i = move(t, i)
	kill("after")
	eventually(t, "the logger's end is known", ended)
	f := client(t, in)
	if _, err := f.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	i = move(t, i)
	waitFor(t, cmd) // neither SIGPIPE nor a full pipe
	i = move(t, i)
	mustDrain(t, i)
}

func TestResumeALoggerThatCannotBeAdopted(t *testing.T) {
	checkLeaks(t)
	uri, _ := loggerURI(t, "binary", "logger-copy")
	i := mustOpen(t, Streams{Stdout: uri}, testOptions(t))
	s := mustPark(t, i)
	_, err := Resume(s, dupFile, i.opts) // osChildren adopts nobody
	wantError(t, err, errdefs.ErrFailedPrecondition, "adopt", "box")

	other, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	o := i.opts
	o.Children = adopter{}
	for n, d := range s.Descriptors {
		if d.Slot == "loggerPidfd" {
			f, err := dupFile(other)
			if err != nil {
				t.Fatal(err)
			}
			s.Descriptors[n], err = identify(d.Slot, f)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			s.Descriptors[n].FD = other
		}
	}
	_, err = Resume(s, dupFile, o)
	wantError(t, err, errdefs.ErrInvalidArgument, "is of process")
	i.Unpark()
}

func TestAnotherProcessesLoggerIsEnded(t *testing.T) {
	checkLeaks(t)
	uri, _ := loggerURI(t, "binary", "logger-stubborn")
	o := testOptions(t)
	o.Deadlines.Logger = 500 * time.Millisecond
	i := mustOpen(t, Streams{Stdout: uri}, o)
	waitFor(t, start(t, i, "echo hello"))
	i = resumed(t, i)
	if err := i.Go(); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "Close", func() { mustClose(t, i) })
}
