// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"
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

// beginFinish calls Finish as the container does.
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
		f := openReader(t, out)
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
		f := openReader(t, out)
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
		r.want(t, lines("l", 1000))
		i = move(t, i)
		mustClose(t, i)
	})
}

func TestMoveWithFullPipesAndNoReader(t *testing.T) {
	byEachMove(t, func(t *testing.T, move move) {
		out := mkfifo(t, "out")
		i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
		f := openReader(t, out)
		cmd := start(t, i, countTo(100000, "l"))
		f.Close()
		for range 5 {
			eventually(t, "the pipes are full", func() bool { return queuedIn(i.fds.get(stdoutSource)) > 60000 })
			i = move(t, i)
		}
		r := readAll(out)
		waitFor(t, cmd)
		mustDrain(t, i)
		r.want(t, lines("l", 100000))
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
