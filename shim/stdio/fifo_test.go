// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestTenThousandLinesOnBothStreams(t *testing.T) {
	checkLeaks(t)
	out, errs := mkfifo(t, "out"), mkfifo(t, "err")
	i := mustOpen(t, Streams{Stdout: out, Stderr: "fifo://" + errs}, testOptions(t))
	ro, re := readAll(out), readAll(errs)
	cmd := start(t, i, countTo(10000, "o")+"; "+countTo(10000, "e")+" >&2")
	waitFor(t, cmd)
	mustDrain(t, i)
	ro.want(t, lines("o", 10000))
	re.want(t, lines("e", 10000))
	mustClose(t, i)
	mustClose(t, i)
}

func TestMegabytesToASlowReader(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
	f := openReader(t, out)
	defer f.Close()
	// A pipe of one page that is read in bits: the copier has to wait all the time.
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Control(func(fd uintptr) {
		if _, err := unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := start(t, i, "head -c 8388608 /dev/zero")
	got := make(chan int64, 1)
	go func() {
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 777))
		got <- n
	}()
	waitFor(t, cmd)
	mustDrain(t, i)
	within(t, patience, "the reader", func() {
		if n := <-got; n != 8<<20 {
			t.Errorf("%d bytes", n)
		}
	})
}

// cpuTime is what the test process has used so far.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestReaderGoesAndComesBack(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
	opened := make(chan *os.File, 1)
	go func() {
		f, err := os.Open(out)
		if err != nil {
			t.Error(err)
		}
		opened <- f
	}()
	cmd := start(t, i, "echo first; "+countTo(100000, "l"))
	f := <-opened
	first := make([]byte, 6)
	if _, err := io.ReadFull(f, first); err != nil || string(first) != "first\n" {
		t.Fatalf("%q, %v", first, err)
	}
	f.Close()
	// Nobody reads now: both pipes fill up, the process waits, nothing spins.
	eventually(t, "the pipes are full", func() bool { return queuedIn(i.fds.get(stdoutSource)) > 60000 })
	before := cpuTime(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	wantError(t, i.Drain(ctx), context.DeadlineExceeded, "stdout", "box", out)
	if used := cpuTime(t) - before; used > 100*time.Millisecond {
		t.Errorf("waiting for a reader took %v of CPU", used)
	}
	r := readAll(out)
	waitFor(t, cmd)
	mustDrain(t, i)
	r.want(t, lines("l", 100000))
}

func TestOutputWaitsForAReaderAfterTheExit(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	in := mkfifo(t, "in")
	i := mustOpen(t, Streams{Stdin: in, Stdout: out}, testOptions(t))
	f := openReader(t, out)
	cmd := start(t, i, "read x; "+countTo(1000, "l"))
	f.Close() // the daemon dies; then the process ends
	if err := i.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, cmd)
	mustDrain(t, i)
	eventually(t, "the copier has let go of its reading end", func() bool { return i.fds.get(stdoutKeeper) == nil })
	r := readAll(out) // the daemon is back
	r.want(t, lines("l", 1000))
}

func TestCloseWhileNoReaderComes(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	in := mkfifo(t, "in")
	i := mustOpen(t, Streams{Stdin: in, Stdout: out}, testOptions(t))
	f := openReader(t, out)
	cmd := start(t, i, "read x; echo bye")
	f.Close()
	if err := i.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, cmd)
	mustDrain(t, i)
	within(t, patience, "Close", func() { mustClose(t, i) })
}

func TestStartedWithoutAReader(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	o := testOptions(t)
	o.Deadlines.Open = 50 * time.Millisecond
	i := mustOpen(t, Streams{Stdout: out}, o)
	cmd := process(t, i, "echo")
	err := i.Started(testContext(t))
	waitFor(t, cmd)
	wantError(t, err, context.DeadlineExceeded, "stdout", "reader", out)
	wantError(t, i.Started(testContext(t)), errdefs.ErrFailedPrecondition)
}

func TestCloseDuringStarted(t *testing.T) {
	checkLeaks(t)
	i := mustOpen(t, Streams{Stdout: mkfifo(t, "out")}, testOptions(t))
	errs := make(chan error, 1)
	go func() { errs <- i.Started(context.Background()) }()
	eventually(t, "Started has begun", func() bool { return i.fds.get(childStdout) == nil })
	mustClose(t, i)
	wantError(t, <-errs, nil)
}

func TestGrandchildHoldsTheOutput(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	i := mustOpen(t, Streams{Stdin: "", Stdout: out, Stderr: ""}, testOptions(t))
	r := readAll(out)
	// The grandchild keeps stdout and reads the test's pipe until it is closed.
	_, stdout, _ := i.Child()
	cmd := shellWith(t, hold, stdout, "head -c 3000000 /dev/zero; cat <&3 & exit 0")
	if err := i.Started(testContext(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, cmd)
	within(t, 5*time.Second, "Drain", func() { mustDrain(t, i) })
	if i.fds.get(stdoutSource) == nil {
		t.Error("nobody held the output")
	}
	mustClose(t, i)
	if n := len(r.wait(t)); n != 3000000 {
		t.Errorf("%d bytes", n)
	}
	release.Close()
}

func TestDrainWhileAGrandchildWritesOn(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
	r := readAll(out)
	_, stdout, _ := i.Child()
	// It ends by EPIPE when the IO is closed.
	cmd := shellWith(t, hold, stdout, "head -c 100000 /dev/zero; (yes; true) 2>/dev/null & exit 0")
	hold.Close()
	release.Close()
	if err := i.Started(testContext(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, cmd)
	within(t, 5*time.Second, "Drain", func() { mustDrain(t, i) })
	mustClose(t, i)
	if got := r.wait(t); !bytes.HasPrefix(got, make([]byte, 100000)) {
		t.Errorf("only %d bytes", len(got))
	}
}

func TestDrainIsBoundedAndLosesNothing(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
	f := openReader(t, out)
	defer f.Close()
	cmd := start(t, i, "head -c 120000 /dev/zero")
	waitFor(t, cmd)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	wantError(t, i.Drain(ctx), context.DeadlineExceeded)
	got := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, f)
		got <- n
	}()
	mustDrain(t, i)
	if n := <-got; n != 120000 {
		t.Errorf("%d bytes", n)
	}
}

func TestCloseBeforeStarted(t *testing.T) {
	checkLeaks(t)
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdin: in, Stdout: out, Stderr: out}, testOptions(t))
	if err := errors.Join(i.CloseStdin(), i.Resize(80, 25), i.Drain(testContext(t))); err != nil {
		t.Error(err)
	}
	mustClose(t, i)
	mustClose(t, i)
	wantError(t, i.Started(testContext(t)), errdefs.ErrFailedPrecondition)
	if err := errors.Join(i.CloseStdin(), i.Resize(80, 25), i.Drain(testContext(t))); err != nil {
		t.Error(err)
	}
}

func TestNoStreams(t *testing.T) {
	checkLeaks(t)
	i := mustOpen(t, Streams{}, testOptions(t))
	in, out, errs := i.Child()
	if in != nil || out != nil || errs != nil || i.ConsoleSocket() != "" {
		t.Error("there are ends for streams that nobody named")
	}
	waitFor(t, start(t, i, "cat; echo out; echo err >&2"))
	mustDrain(t, i)
}

func TestOneFIFOForBothStreams(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: out, Stderr: out}, testOptions(t))
	r := readAll(out)
	waitFor(t, start(t, i, "echo a; echo b >&2"))
	mustDrain(t, i)
	if got := string(r.wait(t)); got != "a\nb\n" && got != "b\na\n" {
		t.Errorf("%q", got)
	}
}

func TestPipesHaveTheOwnerAndAreNotInherited(t *testing.T) {
	checkLeaks(t)
	o := testOptions(t)
	o.UID, o.GID = 1234, 2345
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdin: in, Stdout: out, Stderr: out}, o)
	stdin, stdout, stderr := i.Child()
	for _, f := range []*os.File{stdin, stdout, stderr} {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != 1234 || st.Gid != 2345 {
			t.Errorf("%s: owner %d:%d, %v", f.Name(), st.Uid, st.Gid, err)
		}
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("%s: flags %#x, %v: the process would see EAGAIN", f.Name(), flags, err)
		}
	}
	r := readAll(out)
	cmd := start(t, i, "cat >/dev/null")
	for s := range numSlots {
		f := i.fds.get(s)
		if f == nil {
			continue
		}
		conn, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("slot %d is inherited by other children (%v)", s, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := i.CloseStdin(); err != nil {
		t.Error(err)
	}
	waitFor(t, cmd)
	r.wait(t)
}
