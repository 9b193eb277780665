// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// fullState has every field, as no IO has.
func fullState() State {
	flow := FlowState{
		Pending: []byte("pending"), Taken: 107, Delivered: 100, Dropped: 10, Empties: 3,
		SourceEnded: true, Failed: true, GivenUp: true, Exited: true, Cut: true, Ended: true,
	}
	return State{
		ID: "box", Phase: "started", Stdin: "/in", Stdout: "binary:///bin/logger?a=b", Stderr: "file:///err",
		Terminal: true, StdinClosed: true, ConsoleDir: "c123",
		Descriptors: []DescriptorState{
			{Slot: "consoleMaster", FD: 9, Device: 1, Inode: 1<<64 - 1, Flags: unix.O_RDWR | unix.O_NONBLOCK, PTS: 5},
			{Slot: "stdoutSink", FD: 7, Device: 2, Inode: 3, Flags: unix.O_WRONLY | unix.O_APPEND},
		},
		Input: &InputState{FIFO: true, FlowState: flow},
		Outputs: []OutputState{
			{Stream: "stdout", FIFO: true, Shared: true, Released: true, FlowState: flow},
			{Stream: "stderr"},
		},
		Logger: &LoggerState{PID: 77, Ended: true, Error: "exit status 1", Dropping: []string{"loggerStdout"}},
		Finish: &FinishState{
			Marks:   []MarkState{{Stream: "stdout", Delivered: 100, Empties: 2}},
			Bounded: true, DrainLeft: int64(time.Second), Drained: true, LingerLeft: int64(time.Millisecond),
		},
	}
}

// TestStateIsWrittenAsEver: what one version has written another has to read.
func TestStateIsWrittenAsEver(t *testing.T) {
	path := filepath.Join("testdata", "state.json")
	text, err := json.MarshalIndent(fullState(), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *rewrite {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("the state's form has changed (-rewrite, and a new version of what carries it):\n%s", text)
	}
	var back State
	if err := json.Unmarshal(want, &back); err != nil {
		t.Fatal(err)
	}
	if !sameButNumbers(back, fullState()) || len(back.FDs()) != 2 || back.FDs()[0] != 7 || back.FDs()[1] != 9 {
		t.Errorf("read as %+v", back)
	}
}

// parkedPipes is an IO with pipes for everything, parked, and its State.
func parkedPipes(t testing.TB) (*IO, State) {
	t.Helper()
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdin: in, Stdout: out, Stderr: out}, testOptions(t))
	f := openReader(t, out)
	t.Cleanup(func() { f.Close() })
	for _, end := range ends(i.Child()) { // or the outputs end
		held := dupEnd(t, end)
		t.Cleanup(func() { held.Close() })
	}
	if err := i.Started(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return i, mustPark(t, i)
}

func slotOf(s *State, name string) *DescriptorState {
	for n := range s.Descriptors {
		if s.Descriptors[n].Slot == name {
			return &s.Descriptors[n]
		}
	}
	return &DescriptorState{}
}

func TestStatesThatCannotBeTrue(t *testing.T) {
	checkLeaks(t)
	i, good := parkedPipes(t)
	for name, spoil := range map[string]func(*State){
		"another ID":            func(s *State) { s.ID = "other" },
		"no phase":              func(s *State) { s.Phase = "" },
		"closed":                func(s *State) { s.Phase = "closed" },
		"another stream":        func(s *State) { s.Stdout = "nothing" },
		"a terminal":            func(s *State) { s.Terminal = true },
		"a logger":              func(s *State) { s.Logger = &LoggerState{PID: 5} },
		"a console directory":   func(s *State) { s.ConsoleDir = "c1" },
		"no input":              func(s *State) { s.Input = nil },
		"no outputs":            func(s *State) { s.Outputs = nil },
		"outputs twice":         func(s *State) { s.Outputs[1] = s.Outputs[0] },
		"too much delivered":    func(s *State) { s.Outputs[0].Delivered++ },
		"something undelivered": func(s *State) { s.Outputs[0].Taken++ },
		"too much dropped":      func(s *State) { s.Outputs[0].Dropped++ },
		"pending out of nowhere": func(s *State) {
			s.Outputs[0].Pending = []byte("x")
		},
		"a wrong end": func(s *State) {
			s.Input.Pending, s.Input.Taken, s.Input.Ended = []byte("x"), 1, true
		},
		"a flood": func(s *State) {
			s.Input.Pending, s.Input.Taken = make([]byte, maxPending+1), maxPending+1
		},
		"given up for nothing": func(s *State) { s.Outputs[0].GivenUp = true },
		"shared named pipes":   func(s *State) { s.Outputs[0].Shared, s.Outputs[1].Shared = true, true },
		"released too early":   func(s *State) { s.Outputs[0].Released = true },
		"an input cut off":     func(s *State) { s.Input.Cut = true },
		"marks of nothing":     func(s *State) { s.Finish = &FinishState{} },
		"marks of one stream": func(s *State) {
			s.Finish = &FinishState{Marks: []MarkState{{Stream: "stdout"}, {Stream: "stdout"}}}
		},
		"time before": func(s *State) {
			s.Finish = &FinishState{Marks: []MarkState{{Stream: "stdout"}, {Stream: "stderr"}}, LingerLeft: -1}
		},
		"an unknown slot":      func(s *State) { s.Descriptors[0].Slot = "stdout" },
		"a slot of no use":     func(s *State) { s.Descriptors[0].Slot = "consoleMaster" },
		"a slot twice":         func(s *State) { s.Descriptors[0].Slot = s.Descriptors[1].Slot },
		"a number twice":       func(s *State) { s.Descriptors[0].FD = s.Descriptors[1].FD },
		"a negative number":    func(s *State) { s.Descriptors[0].FD = -1 },
		"a missing descriptor": func(s *State) { s.Descriptors = s.Descriptors[1:] },
		"another direction":    func(s *State) { slotOf(s, "stdoutSource").Flags = unix.O_WRONLY | unix.O_NONBLOCK },
		"one that blocks":      func(s *State) { slotOf(s, "stdoutSource").Flags = unix.O_RDONLY },
		"not started":          func(s *State) { s.Phase = "open" },
	} {
		t.Run(name, func(t *testing.T) {
			s := throughJSON(t, good)
			spoil(&s)
			_, err := Resume(s, func(fd int) (*os.File, error) {
				t.Errorf("descriptor %d is touched", fd)
				return nil, errors.New("touched")
			}, i.opts)
			wantError(t, err, errdefs.ErrInvalidArgument, "resuming", "box")
		})
	}
}

// TestDescriptorsThatAreOthers are refused, and nothing is done to them.
func TestDescriptorsThatAreOthers(t *testing.T) {
	checkLeaks(t)
	i, good := parkedPipes(t)
	for name, spoil := range map[string]func(*State){
		"another inode":  func(s *State) { s.Descriptors[0].Inode++ },
		"another device": func(s *State) { s.Descriptors[0].Device++ },
		"other flags":    func(s *State) { slotOf(s, "stdinKeeper").Flags |= unix.O_NONBLOCK },
		"two exchanged": func(s *State) {
			a, b := slotOf(s, "stdoutSource"), slotOf(s, "stderrSource")
			a.FD, b.FD = b.FD, a.FD
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := throughJSON(t, good)
			spoil(&s)
			_, err := Resume(s, dupFile, i.opts)
			wantError(t, err, errdefs.ErrInvalidArgument, "descriptor", "box")
		})
	}
	failure := errors.New("not in the envelope")
	_, err := Resume(good, func(int) (*os.File, error) { return nil, failure }, i.opts)
	wantError(t, err, failure, "descriptor")
	i.Unpark()
	_, err = Resume(good, dupFile, Options{ID: "other"})
	wantError(t, err, errdefs.ErrInvalidArgument, "box")
}

func TestWhatCannotBeDoneWhileParked(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdin: mkfifo(t, "in"), Stdout: out}, testOptions(t))
	wantError(t, i.Go(), errdefs.ErrFailedPrecondition, "resumed")
	wantError(t, i.Abandon(), errdefs.ErrFailedPrecondition, "parked")
	mustPark(t, i)
	wantError(t, i.Started(testContext(t)), errdefs.ErrUnavailable, "parked")
	wantError(t, i.CloseStdin(), errdefs.ErrUnavailable, "parked")
	wantError(t, i.Go(), errdefs.ErrFailedPrecondition, "resumed")
	i.Unpark()

	next := resumed(t, i)
	next.Unpark() // not Go
	wantError(t, next.CloseStdin(), errdefs.ErrUnavailable, "parked")
	if err := next.Go(); err != nil {
		t.Fatal(err)
	}
	wantError(t, next.Go(), errdefs.ErrFailedPrecondition, "resumed")
	if err := next.CloseStdin(); err != nil {
		t.Error(err)
	}
	mustClose(t, next)
	_, err := next.Park(testContext(t))
	wantError(t, err, errdefs.ErrFailedPrecondition, "closed")
	if next.Unpark(); next.Go() == nil || next.Abandon() == nil {
		t.Error("goes on after Close")
	}
}

func TestParkWhileStarting(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	i := mustOpen(t, Streams{Stdout: out}, testOptions(t))
	errs := make(chan error, 1)
	go func() { errs <- i.Started(testContext(t)) }()
	eventually(t, "Started has begun", func() bool { return i.fds.get(childStdout) == nil })
	_, err := i.Park(testContext(t))
	wantError(t, err, errdefs.ErrUnavailable, "connected")
	r := readAll(out)
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	mustPark(t, i)
}

func TestAbandonedStreamsGoOnElsewhere(t *testing.T) {
	checkLeaks(t)
	i, s := parkedPipes(t)
	next, err := Resume(s, dupFile, i.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Abandon(); err != nil { // the image that could not go on
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	i.Unpark()
	in := client(t, s.Stdin)
	defer in.Close()
	if _, err := in.WriteString("more"); err != nil {
		t.Error(err)
	}
	again := mustPark(t, i)
	if len(again.Descriptors) != len(s.Descriptors) || strings.Contains(again.Phase, "closed") {
		t.Errorf("it was %+v and is %+v", s, again)
	}
}
