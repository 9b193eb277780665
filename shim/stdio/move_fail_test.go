// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
