// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// byEachMove runs a test with each way to move an IO.
func byEachMove(t *testing.T, test func(*testing.T, move)) {
	for name, m := range moves {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			test(t, m)
		})
	}
}

// finishing calls Finish as the container does.
func beginFinish(t *testing.T, i *IO, linger time.Duration) chan error {
	t.Helper()
	done := make(chan error, 1)
	ctx := testContext(t)
	go func() { done <- i.Finish(ctx, linger) }()
	eventually(t, "Finish is under way", func() bool {
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.finish != nil && i.finish.left == nil || len(done) > 0
	})
	return done
}

// finishAgain calls Finish of what i has become, if that is to be done.
func finishAgain(t *testing.T, before chan error, i *IO) chan error {
	t.Helper()
	if !i.Finishing() {
		return before
	}
	return beginFinish(t, i, time.Hour) // which is not what is left of it
}

func TestMoveWhileDraining(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		out := mkfifo(t, "out")
		i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
		f, err := os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		waitFor(t, start(t, i, "head -c 120000 /dev/zero"))
		done := beginFinish(t, i, time.Minute)
		for range 3 {
			i = move(t, i)
			done = finishAgain(t, done, i)
		}
		if len(done) != 0 {
			t.Errorf("drained already: %v", <-done)
		}
		within(t, patience, "the client", func() {
			if n, err := io.Copy(io.Discard, f); n != 120000 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
		within(t, patience, "Finish", func() {
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	})
}

func TestMoveWhileSomethingLingers(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		out := mkfifo(t, "out")
		hold, release, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		defer release.Close()
		i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
		r := readAll(out)
		_, stdout, _ := i.Child()
		cmd := shellWith(t, hold, stdout, "echo hello; cat <&3 & exit 0")
		if err := i.Started(testContext(t)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, cmd)
		done := beginFinish(t, i, 500*time.Millisecond)
		eventually(t, "the output is drained", func() bool {
			i.mu.Lock()
			defer i.mu.Unlock()
			return i.finish != nil && i.finish.drained
		})
		i = move(t, i)
		done = finishAgain(t, done, i)
		if got := string(r.wait(t)); got != "hello\n" { // at its end, though it is held
			t.Errorf("%q", got)
		}
		within(t, patience, "Finish", func() {
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		mustDrain(t, move(t, i)) // cut off
	})
}

func TestMoveWhileNoReaderIsThere(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		out := mkfifo(t, "out")
		i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
		f, err := os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		cmd := process(t, i, countTo(1000, "l"))
		if err := i.Started(testContext(t)); err != nil {
			t.Fatal(err)
		}
		f.Close() // the daemon dies
		i = move(t, i)
		waitFor(t, cmd)
		mustDrain(t, i)
		i = move(t, i)
		eventually(t, "the copier has let go of its reading end", func() bool { return i.fds.get(stdoutKeeper) == nil })
		for range 100 {
			i = move(t, i)
		}
		r := readAll(out) // the daemon is back
		if got, want := string(r.wait(t)), lines("l", 1000); got != want {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
		i = move(t, i)
		mustClose(t, i)
	})
}

func TestMoveWithFullPipesAndNoReader(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		out := mkfifo(t, "out")
		i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
		f, err := os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		cmd := start(t, i, countTo(100000, "l"))
		f.Close()
		for range 5 {
			eventually(t, "the pipes are full", func() bool { return queuedIn(i.fds.get(stdoutSource)) > 60000 })
			i = move(t, i)
		}
		r := readAll(out)
		waitFor(t, cmd)
		mustDrain(t, i)
		if got, want := string(r.wait(t)), lines("l", 100000); got != want {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
	})
}

func TestMoveBeforeStarted(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		in, out, errs := mkfifo(t, "in"), mkfifo(t, "out"), mkfifo(t, "err")
		i := mustOpen(t, Streams{Stdin: in, Stdout: out, Stderr: errs}, testOptions(t))
		r, re := readAll(out), readAll(errs)
		i = move(t, i)
		cmd := start(t, i, "cat; echo end >&2")
		f := client(t, in)
		i = move(t, i)
		if _, err := f.WriteString("hello "); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := i.CloseStdin(); err != nil {
			t.Fatal(err)
		}
		move(t, i)
		waitFor(t, cmd)
		if got := string(r.wait(t)) + string(re.wait(t)); got != "hello end\n" {
			t.Errorf("%q", got)
		}
	})
}

func TestMoveAConsoleBeforeStarted(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		in, out := mkfifo(t, "in"), mkfifo(t, "out")
		o := testOptions(t)
		i := mustOpen(t, Streams{Stdin: in, Stdout: out, Terminal: true}, o)
		r := readAll(out)
		socket := i.ConsoleSocket()
		if err := i.CloseStdin(); err != nil {
			t.Fatal(err)
		}
		i = move(t, i)
		if i.ConsoleSocket() != socket {
			t.Errorf("the socket is %s instead of %s", i.ConsoleSocket(), socket)
		}
		cmd := startOnTerminal(t, i, "cat; echo end; stty size")
		i = move(t, i)
		if err := i.Resize(100, 50); err != nil {
			t.Error(err)
		}
		waitFor(t, cmd) // its input ended before it began
		mustDrain(t, i)
		mustClose(t, i)
		if got := string(r.wait(t)); !strings.Contains(got, "end\r\n50 100\r\n") {
			t.Errorf("%q", got)
		}
		if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
			t.Errorf("the socket is still there: %v", left)
		}
	})
}

func TestMoveAnEndOfInputThatATerminalDoesNotTake(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		in, got := mkfifo(t, "in"), filepath.Join(t.TempDir(), "got")
		i := mustOpen(t, Streams{Stdin: in, Terminal: true}, testOptions(t))
		hold, release, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		master, slave := newPTY(t)
		cmd := exec.Command("/bin/sh", "-c", "stty -echo; read line <&3; exec cat > "+got)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = slave, slave, slave, []*os.File{hold}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sendFile(t, i, master)
		master.Close()
		slave.Close()
		if err := i.Started(testContext(t)); err != nil {
			t.Fatal(err)
		}
		f := client(t, in)
		want := lines("line ", 3000) // more than a terminal holds
		if _, err := f.WriteString(want); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := i.CloseStdin(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			i = move(t, i)
		}
		if i.stdin.m.over() {
			t.Error("all was taken before it was read")
		}
		if _, err := release.WriteString("go\n"); err != nil {
			t.Fatal(err)
		}
		release.Close()
		for cmd.Process.Signal(unix.Signal(0)) == nil && !i.stdin.m.over() {
			i = move(t, i)
		}
		waitFor(t, cmd) // by the end of its input
		if text := readLog(t, got); text != want {
			t.Errorf("%d bytes instead of %d", len(text), len(want))
		}
	})
}

func TestMoveStdinFromAFile(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		path, out := filepath.Join(t.TempDir(), "input"), mkfifo(t, "out")
		var text bytes.Buffer
		if err := writePattern(&text, 3, 8<<20, 1<<20); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		i := mustOpen(t, Streams{Stdin: path, Stdout: out}, testOptions(t))
		r := readAll(out)
		cmd := start(t, i, "cat")
		rounds := 0
		for ; !i.stdin.m.over(); rounds++ {
			before := i.stdin.m.position()
			i = move(t, i)
			eventually(t, "some of it was read", func() bool { return i.stdin.m.over() || i.stdin.m.position() > before })
		}
		if rounds < 5 {
			t.Errorf("moved only %d times", rounds)
		}
		waitFor(t, cmd)
		if got := r.wait(t); !bytes.Equal(got, text.Bytes()) {
			t.Errorf("%d bytes that are not those of the file", len(got))
		}
	})
}

// position returns how much has been delivered.
func (m *meter) position() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.delivered
}

func TestMoveAfterADestinationFailed(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		in := mkfifo(t, "in")
		i := mustOpen(t, Streams{Stdin: in, Stdout: "/dev/full"}, testOptions(t))
		cmd := start(t, i, "head -c 500000 /dev/zero; read line; head -c 500000 /dev/zero")
		eventually(t, "half of it is dropped", func() bool { return i.outputs[0].m.position() == 500000 })
		i = move(t, i)
		if o := mustPark(t, i).Outputs[0]; !o.Failed || o.GivenUp {
			t.Errorf("failed=%t, given up=%t", o.Failed, o.GivenUp)
		}
		i.Unpark()
		f := client(t, in)
		f.WriteString("\n")
		f.Close()
		waitFor(t, cmd)
		mustDrain(t, i)
		if m := &i.outputs[0].m; m.dropped != 1000000 {
			t.Errorf("%d bytes dropped", m.dropped)
		}
	})
}

func TestMoveAfterADestinationWasGivenUp(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		i := mustOpen(t, Streams{Stdout: "file://" + filepath.Join(t.TempDir(), "log")}, testOptions(t))
		// What fails for good, as a file on a server that is gone.
		if err := replaceSink(i, func(r *os.File) { r.Close() }); err != nil {
			t.Fatal(err)
		}
		cmd := start(t, i, countTo(1000, "l")+"; head -c 3000000 /dev/zero")
		eventually(t, "some of it is dropped", func() bool { return i.outputs[0].m.position() > 100 })
		for range 3 {
			i = move(t, i)
			if o := mustPark(t, i).Outputs[0]; !o.Ended && !o.GivenUp {
				t.Error("written to again")
			}
			i.Unpark()
		}
		waitFor(t, cmd)
		mustDrain(t, i)
		if m := &i.outputs[0].m; m.dropped != 3000000+uint64(len(lines("l", 1000))) {
			t.Errorf("%d bytes dropped", m.dropped)
		}
	})
}

// replaceSink puts a pipe in place of stdout's file, and gives use its other end.
func replaceSink(i *IO, use func(r *os.File)) error {
	r, w, err := newPipe("sink", 0, 0)
	if err != nil {
		return err
	}
	if w, err = pollable(w); err != nil {
		return err
	}
	use(r)
	return errors.Join(i.fds.close(stdoutSink), i.fds.put(stdoutSink, w))
}

// TestParkGivesUp: a write that hangs keeps an IO from being parked, and
// nothing else: all goes on as before.
func TestParkGivesUp(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: "file://" + filepath.Join(t.TempDir(), "log"), Stderr: out}, testOptions(t))
	r := blockingSink(t, i)
	re := readAll(out)
	cmd := start(t, i, "("+countTo(20000, "e")+") >&2; head -c 200000 /dev/zero; echo end >&2")
	eventually(t, "the write hangs", func() bool { return queuedIn(r) == 65536 && queuedIn(i.fds.get(stdoutSource)) == 65536 })
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err := i.Park(ctx)
		cancel()
		wantError(t, err, context.DeadlineExceeded, "box", "stdout", "rest", "unavailable")
		if strings.Contains(err.Error(), "stderr") {
			t.Errorf("%v: blames the other stream too", err)
		}
	}
	got := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, r)
		r.Close()
		got <- n
	}()
	waitFor(t, cmd)
	mustDrain(t, i)
	mustPark(t, i)
	i.Unpark()
	mustClose(t, i)
	if n := <-got; n != 200000 {
		t.Errorf("%d bytes", n)
	}
	if text := string(re.wait(t)); text != lines("e", 20000)+"end\n" {
		t.Errorf("stderr has %d bytes", len(text))
	}
}

// blockingSink puts a pipe that blocks in place of stdout's file, which is like
// a file on a server that does not answer, and returns its other end.
func blockingSink(t *testing.T, i *IO) *os.File {
	t.Helper()
	r, w, err := newPipe("sink", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(i.fds.close(stdoutSink), i.fds.put(stdoutSink, w)); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAWriteThatHangs keeps nobody longer than the deadlines say.
func TestAWriteThatHangs(t *testing.T) {
	checkLeaks(t)
	o := testOptions(t)
	o.Deadlines.Drain = 100 * time.Millisecond
	i, err := Open(testContext(t), Streams{Stdout: "file://" + filepath.Join(t.TempDir(), "log")}, o)
	if err != nil {
		t.Fatal(err)
	}
	r := blockingSink(t, i)
	cmd := start(t, i, "head -c 100000 /dev/zero")
	waitFor(t, cmd)
	eventually(t, "the write hangs", func() bool { return queuedIn(r) == 65536 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	within(t, patience, "Finish, Drain and Close", func() {
		for _, err := range []error{i.Finish(ctx, time.Minute), i.Drain(ctx), i.Close()} {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		}
	})
	if n, err := io.Copy(io.Discard, r); n == 0 || err != nil { // releases the goroutine
		t.Errorf("%d bytes, %v", n, err)
	}
	r.Close()
}
