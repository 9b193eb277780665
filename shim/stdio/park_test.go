// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// flow is one way for bytes to go through an IO in both directions.
type flow struct {
	terminal, file bool
	piece          int  // of each write: small ones go through buffers, big ones are spliced
	slow           bool // the client's pipes hold a page and are read in bits
	size           int
}

var flows = map[string]flow{
	"spliced":            {piece: 64 << 10, size: 8 << 20},
	"lines":              {piece: 80, size: 2 << 20},
	"full pipes spliced": {piece: 64 << 10, slow: true, size: 2 << 20},
	"full pipes":         {piece: 333, slow: true, size: 1 << 20},
	"files":              {file: true, piece: 10000, size: 8 << 20},
	"terminal":           {terminal: true, piece: 1000, size: 2 << 20},
	"slow terminal":      {terminal: true, piece: 1000, slow: true, size: 1 << 20},
}

// TestNothingIsLostByMoving moves an IO again and again while bytes flow as fast
// as they can from the client through the process and back.
func TestNothingIsLostByMoving(t *testing.T) {
	for moveName, move := range moves {
		for name, f := range flows {
			t.Run(moveName+" "+name, func(t *testing.T) { testFlow(t, f, move) })
		}
	}
}

func testFlow(t *testing.T, f flow, move move) {
	checkLeaks(t)
	in, out, errs := mkfifo(t, "in"), mkfifo(t, "out"), mkfifo(t, "err")
	s := Streams{Stdin: in, Stdout: out, Stderr: errs, Terminal: f.terminal}
	if f.file {
		s.Stderr = filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(s.Stderr, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if f.terminal {
		s.Stderr = ""
	}
	i := mustOpen(t, s, testOptions(t))
	results := make(chan error, 8)
	expect := 2 // the client's writer and its reader of stdout
	var passed, passedErr atomic.Int64
	stdoutEnd, stderrEnd := clientEnd(t, out, f), clientEnd(t, errs, f)
	stdin, stdout, stderr := processEnds(t, i, f)
	if err := i.Started(testContext(t)); err != nil {
		t.Fatal(err)
	}
	go func() { results <- writeClient(in, f) }()
	go func() { results <- readClient(stdoutEnd, 1, f, &passed) }()
	if s.Stderr == errs {
		expect++
		go func() { results <- readClient(stderrEnd, 2, f, &passedErr) }()
	} else {
		stderrEnd.Close()
	}
	expect++
	go func() { results <- playProcess(stdin, stdout, stderr, f) }()

	i, rounds := moveWhile(t, i, f, move, &passed, results, expect)
	if rounds < 10 {
		t.Errorf("moved only %d times while bytes flowed", rounds)
	}
	mustDrain(t, i)
	mustClose(t, i)
	if f.file {
		log, err := os.Open(s.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		if err := checkPattern(log, 2, f.size, 1<<16); err != nil {
			t.Errorf("the log: %v", err)
		}
	}
}

// moveWhile moves i until there are so many results. In between some bytes are
// let pass, some times none.
func moveWhile(t *testing.T, i *IO, f flow, move move, passed *atomic.Int64, results chan error, expect int) (_ *IO, rounds int) {
	t.Helper()
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	end := time.After(3 * patience)
	dice := rand.New(rand.NewPCG(1, 2))
	next := int64(0)
	for done := 0; done < expect; {
		select {
		case err := <-results:
			done++
			if err != nil {
				t.Fatal(err)
			}
			if done == 1 { // the client has written all
				if err := i.CloseStdin(); err != nil {
					t.Error(err)
				}
			}
		case <-tick.C:
			if passed.Load() >= next {
				i = move(t, i)
				rounds++
				next += max(0, dice.Int64N(int64(f.size/40))-int64(f.size/100))
			}
		case <-end:
			t.Fatalf("%d bytes passed in time", passed.Load())
		}
	}
	return i, rounds
}

// processEnds are the streams of a process. A terminal has but one output.
func processEnds(t *testing.T, i *IO, f flow) (stdin, stdout, stderr *os.File) {
	if !f.terminal {
		stdin, stdout, stderr := i.Child()
		return dupEnd(t, stdin), dupEnd(t, stdout), dupEnd(t, stderr)
	}
	master, slave := newPTY(t)
	defer master.Close()
	makeRaw(t, slave)
	sendFile(t, i, master)
	return slave, dupEnd(t, slave), nil
}

// playProcess is a process that sends back what it reads, and writes something
// of its own to stderr. It ends with its input; on a terminal in raw mode, which
// has no end, after as many bytes as there should be.
func playProcess(stdin, stdout, stderr *os.File, f flow) error {
	defer stdin.Close()
	done := make(chan error, 1)
	go func() {
		if stderr == nil {
			done <- nil
			return
		}
		defer stderr.Close()
		done <- writePattern(stderr, 2, f.size, f.piece)
	}()
	var from io.Reader = stdin
	if f.terminal {
		from = io.LimitReader(stdin, int64(f.size))
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{stdout}, struct{ io.Reader }{from}, make([]byte, f.piece))
	if closeErr := stdout.Close(); err == nil {
		err = closeErr
	}
	if writeErr := <-done; err == nil {
		err = writeErr
	}
	if err != nil {
		return fmt.Errorf("process: %w", err)
	}
	return nil
}

func writeClient(path string, f flow) error {
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		defer w.Close()
		err = writePattern(w, 1, f.size, f.piece)
	}
	if err != nil {
		return fmt.Errorf("client's stdin: %w", err)
	}
	return nil
}

// clientEnd opens a client's named pipe for reading, without a wait for the shim.
func clientEnd(t *testing.T, path string, f flow) *os.File {
	t.Helper()
	r := openReader(t, path)
	if f.slow {
		shrinkPipe(t, r)
	}
	return r
}

func readClient(r *os.File, seed byte, f flow, passed *atomic.Int64) error {
	defer r.Close()
	piece := 1 << 16
	if f.slow {
		piece = 777
	}
	var from io.Reader = r
	if f.terminal {
		// The end of a terminal's output is for Drain to tell, after the exit.
		from = io.LimitReader(r, int64(f.size))
	}
	from = countingReader{from, passed}
	if err := checkPattern(from, seed, f.size, piece); err != nil {
		return fmt.Errorf("client's %s: %w", filepath.Base(r.Name()), err)
	}
	return nil
}

// countingReader counts what passes.
type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}

// TestParkedStreamsStandStill: nothing passes a parked IO, and all of it does
// after Unpark.
func TestParkedStreamsStandStill(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
	r := openReader(t, out)
	defer r.Close()
	_, end, _ := i.Child()
	stdout := dupEnd(t, end)
	if err := i.Started(testContext(t)); err != nil {
		t.Fatal(err)
	}
	before := mustPark(t, i)
	if _, err := stdout.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	if again := mustPark(t, i); !sameButNumbers(before, again) {
		t.Errorf("parked as %+v\n and then %+v", before, again)
	}
	if n := queuedIn(r); n != 0 || queuedIn(i.fds.get(stdoutSource)) != 5 {
		t.Errorf("%d bytes passed", n)
	}
	i.Unpark()
	i.Unpark()
	stdout.Close()
	got := make([]byte, 10)
	if n, err := io.ReadFull(r, got[:5]); err != nil {
		t.Fatal(n, err)
	}
	mustDrain(t, i)
	if string(got[:5]) != "hello" {
		t.Errorf("%q", got)
	}
}

func TestCloseWhileParked(t *testing.T) {
	for name, f := range map[string]func(testing.TB, *IO) *IO{
		"parked":  func(t testing.TB, i *IO) *IO { mustPark(t, i); return i },
		"resumed": resumed,
	} {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			uri, file := loggerURI(t, "binary", "logger-copy")
			i := mustOpen(t, Streams{Stdin: mkfifo(t, "in"), Stdout: uri}, testOptions(t))
			waitFor(t, start(t, i, "echo before"))
			i = f(t, i)
			mustClose(t, i)
			if got := readLog(t, file); !strings.HasSuffix(got, "before\nstderr: ") {
				t.Errorf("the logger has written %q", got)
			}
			_, err := i.Park(context.Background())
			wantError(t, err, nil, "closed", "box")
		})
	}
}
