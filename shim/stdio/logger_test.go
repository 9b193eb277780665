// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// playLogger is the logging program of that name; args are its arguments after
// the first value, which is the file to write to.
func playLogger(name string, args []string) int {
	stdout, stderr, ready := os.NewFile(3, "stdout"), os.NewFile(4, "stderr"), os.NewFile(5, "ready")
	out, err := os.Create(args[0])
	if err != nil {
		return 1
	}
	switch name {
	case "logger-silent": // never ready
		select {}
	case "logger-crash":
		return 3
	case "logger-hangup": // closes the descriptor and goes on
		ready.Close()
		select {}
	case "logger-eof": // the first version's handshake
		ready.Close()
	default:
		ready.Write([]byte{0})
		ready.Close()
	}
	switch name {
	case "logger-stubborn": // reads nothing and ignores SIGTERM
		signal.Ignore(unix.SIGTERM)
		select {}
	case "logger-term": // ends by SIGTERM only
		sig := make(chan os.Signal, 1)
		signal.Notify(sig, unix.SIGTERM)
		go io.Copy(out, stdout)
		<-sig
		fmt.Fprintln(out, "terminated")
		return 0
	case "logger-stream":
		return playStream(args[0], out, stdout, stderr)
	case "logger-dies":
		io.CopyN(out, stdout, 10)
		return 4
	}
	fmt.Fprintf(out, "%v\n", os.Environ())
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		for _, fd := range fds {
			to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
			if strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "socket:") {
				fmt.Fprintf(out, "%s ", fd.Name())
			}
		}
	}
	fmt.Fprintln(out)
	errText, _ := io.ReadAll(stderr)
	text, _ := io.ReadAll(stdout)
	if name == "logger-slow" { // no event to wait for: Close has to leave it this time
		time.Sleep(300 * time.Millisecond)
	}
	fmt.Fprintf(out, "%sstderr: %s", text, errText)
	return 0
}

// playStream writes both streams as they come.
func playStream(path string, out, stdout, stderr *os.File) int {
	errs, err := os.Create(path + ".err")
	if err != nil {
		return 1
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(errs, stderr)
	}()
	io.Copy(out, stdout)
	<-done
	return 0
}

// loggerURI names this test binary as a logging program.
func loggerURI(t *testing.T, scheme, name string) (uri, file string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "log")
	return scheme + "://" + self + "?" + name + "=" + file, file
}

// inheritable is what every child of the test gets, because the test got it so.
func inheritable(t *testing.T) map[string]bool {
	fds := map[string]bool{}
	for fd := range openFDs(t) {
		n, err := strconv.Atoi(fd)
		if err != nil {
			t.Fatal(err)
		}
		if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds[fd] = true
		}
	}
	return fds
}

func readLog(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLoggers(t *testing.T) {
	for _, c := range []struct{ scheme, name string }{
		{"binary", "logger-copy"}, {"binary", "logger-eof"}, {"binary-v2", "logger-copy"}, {"binary-v2", "logger-slow"},
	} {
		t.Run(c.scheme+" "+c.name, func(t *testing.T) {
			checkLeaks(t)
			inherited := inheritable(t)
			uri, file := loggerURI(t, c.scheme, c.name)
			// stderr's name does not matter: the logger takes both streams.
			i := mustOpen(t, Streams{Stdout: uri, Stderr: ""}, testOptions(t))
			waitFor(t, start(t, i, countTo(10000, "l")+"; echo oops >&2"))
			mustDrain(t, i)
			mustClose(t, i)
			head, got, _ := strings.Cut(readLog(t, file), "\n")
			if head != "[CONTAINER_ID=box CONTAINER_NAMESPACE=ns]" {
				t.Errorf("environment %s", head)
			}
			head, got, _ = strings.Cut(got, "\n")
			for _, fd := range strings.Fields(head) {
				if fd != "3" && fd != "4" && !inherited[fd] {
					t.Errorf("descriptor %s leaked into the logger", fd)
				}
			}
			if want := lines("l", 10000) + "stderr: oops\n"; got != want {
				t.Errorf("%d bytes, want %d: %.200q", len(got), len(want), got)
			}
		})
	}
}

func TestLoggerOfATerminal(t *testing.T) {
	checkLeaks(t)
	uri, file := loggerURI(t, "binary-v2", "logger-copy")
	i := mustOpen(t, Streams{Stdout: uri, Terminal: true}, testOptions(t))
	cmd := startOnTerminal(t, i, countTo(10000, "l")+"; echo oops >&2")
	waitFor(t, cmd)
	mustDrain(t, i)
	mustClose(t, i)
	want := strings.ReplaceAll(lines("l", 10000)+"oops\n", "\n", "\r\n") + "stderr: "
	if got := readLog(t, file); !strings.HasSuffix(got, want) {
		t.Errorf("%d bytes, want %d: %.200q", len(got), len(want), got)
	}
}

func TestLoggersThatDoNotStart(t *testing.T) {
	for name, c := range map[string]struct {
		scheme, logger string
		class          error
		words          []string
	}{
		"silent":          {"binary", "logger-silent", context.DeadlineExceeded, []string{"not ready within"}},
		"silent v2":       {"binary-v2", "logger-silent", context.DeadlineExceeded, []string{"not ready within"}},
		"crash v2":        {"binary-v2", "logger-crash", nil, []string{"did not call ready", "exit status 3"}},
		"closes early v2": {"binary-v2", "logger-hangup", nil, []string{"did not call ready", "runs on"}},
		"first handshake": {"binary-v2", "logger-eof", nil, []string{"did not call ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			uri, _ := loggerURI(t, c.scheme, c.logger)
			o := testOptions(t)
			if c.class != nil {
				o.Deadlines.Logger = 200 * time.Millisecond
			}
			_, err := Open(testContext(t), Streams{Stdout: uri}, o)
			wantError(t, err, c.class, c.words...)
		})
	}
}

func TestLoggerIsMissing(t *testing.T) {
	checkLeaks(t)
	_, err := Open(testContext(t), Streams{Stdout: "binary:///no/such/logger?a=b"}, testOptions(t))
	wantError(t, err, os.ErrNotExist, "/no/such/logger")
	o := testOptions(t)
	o.Children = nil
	_, err = Open(testContext(t), Streams{Stdout: "binary:///bin/true"}, o)
	wantError(t, err, nil, "nobody to start it")
}

func TestOpenGivesUpOnALogger(t *testing.T) {
	checkLeaks(t)
	uri, file := loggerURI(t, "binary", "logger-silent")
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 1)
	go func() {
		_, err := Open(ctx, Streams{Stdout: uri}, testOptions(t))
		errs <- err
	}()
	eventually(t, "the logger runs", func() bool { _, err := os.Stat(file); return err == nil })
	cancel()
	wantError(t, <-errs, context.Canceled)
}

func TestLoggerDiesAndTheProcessGoesOn(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		t.Run(fmt.Sprintf("terminal=%v", terminal), func(t *testing.T) {
			checkLeaks(t)
			uri, file := loggerURI(t, "binary", "logger-dies")
			i := mustOpen(t, Streams{Stdout: uri, Terminal: terminal}, testOptions(t))
			script := "head -c 1000000 /dev/zero | tr '\\0' x"
			if terminal {
				waitFor(t, startOnTerminal(t, i, script))
			} else {
				waitFor(t, start(t, i, script)) // neither SIGPIPE nor a full pipe
			}
			mustDrain(t, i)
			if got := readLog(t, file); got != "xxxxxxxxxx" {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestLoggerThatEndsBySignalOnly(t *testing.T) {
	checkLeaks(t)
	uri, file := loggerURI(t, "binary", "logger-term")
	o := testOptions(t)
	o.Deadlines.Logger = 2 * time.Second
	i := mustOpen(t, Streams{Stdout: uri}, o)
	waitFor(t, start(t, i, "echo hello"))
	mustDrain(t, i)
	mustClose(t, i)
	if got := readLog(t, file); got != "hello\nterminated\n" {
		t.Errorf("%q", got)
	}
}

func TestLoggerThatReadsNothingIsKilled(t *testing.T) {
	checkLeaks(t)
	uri, _ := loggerURI(t, "binary", "logger-stubborn")
	o := testOptions(t)
	o.Deadlines.Logger = 500 * time.Millisecond
	i := mustOpen(t, Streams{Stdout: uri}, o)
	waitFor(t, start(t, i, "echo hello"))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	wantError(t, i.Drain(ctx), context.DeadlineExceeded, "logger")
	within(t, 5*time.Second, "Close", func() { mustClose(t, i) })
}

func TestLoggerBeforeStarted(t *testing.T) {
	checkLeaks(t)
	uri, file := loggerURI(t, "binary-v2", "logger-copy")
	i := mustOpen(t, Streams{Stdout: uri}, testOptions(t))
	mustClose(t, i) // the create failed
	if got := readLog(t, file); !strings.HasSuffix(got, "stderr: ") {
		t.Errorf("%q: not ended by itself", got)
	}
}

func TestGrandchildHoldsALoggersPipe(t *testing.T) {
	checkLeaks(t)
	uri, _ := loggerURI(t, "binary", "logger-term")
	i := mustOpen(t, Streams{Stdout: uri}, testOptions(t))
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	_, stdout, _ := i.Child()
	cmd := shellWith(t, hold, stdout, "head -c 300000 /dev/zero; cat <&3 & exit 0")
	if err := i.Started(testContext(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, cmd)
	within(t, 5*time.Second, "Drain and Close", func() {
		mustDrain(t, i)
		if i.logger.inputEnded() {
			t.Error("nobody held the output")
		}
		mustClose(t, i)
	})
	release.Close()
}
