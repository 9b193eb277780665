// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"slices"
	"time"
)

// State is all that a parked IO is, for an image that goes on from there. It is
// meant to be written as JSON into a larger document, whose version is its own
// too: within a version fields are only added, and what is absent means zero.
// Descriptors are numbers; whoever carries the State also has to carry the
// descriptors (see FDs). The names, deadlines and owners that Options hold are
// not in it, because Resume is given them anew.
type State struct {
	// ID is the process's, as in Options.
	ID string `json:"id"`
	// Phase is "open" before Started and "started" after it.
	Phase string `json:"phase"`
	// Stdin, Stdout, Stderr and Terminal are the Streams that Open was given.
	Stdin    string `json:"stdin,omitempty"`
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`
	// StdinClosed says that CloseStdin has been called.
	StdinClosed bool `json:"stdinClosed,omitempty"`
	// ConsoleDir is the name, below Options.Dir, of the directory of the socket
	// to which the OCI runtime is to send the terminal; only in phase "open".
	ConsoleDir string `json:"consoleDir,omitempty"`
	// Descriptors are what the IO holds, each slot and each number once.
	Descriptors []DescriptorState `json:"descriptors,omitempty"`
	// Input is absent for a process without stdin.
	Input *InputState `json:"input,omitempty"`
	// Outputs are in the order stdout, stderr; those that nobody named are not in
	// it, but with a terminal stdout is.
	Outputs []OutputState `json:"outputs,omitempty"`
	// Logger is absent without one.
	Logger *LoggerState `json:"logger,omitempty"`
	// Finish is there while a call of IO.Finish is under way.
	Finish *FinishState `json:"finish,omitempty"`
}

// DescriptorState names one descriptor and says what it must be: Resume refuses
// a descriptor that is something else.
type DescriptorState struct {
	// Slot is the descriptor's use: childStdin, childStdout, childStderr,
	// stdinSource, stdinKeeper, stdinSink, stdoutSource, stdoutSink,
	// stdoutKeeper, stderrSource, stderrSink, stderrKeeper, loggerStdout,
	// loggerStderr, loggerPidfd, consoleMaster or consoleSocket.
	Slot string `json:"slot"`
	FD   int    `json:"fd"`
	// Device and Inode are st_dev and st_ino of stat(2).
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	// Flags are the access mode, O_NONBLOCK and O_APPEND of F_GETFL.
	Flags int `json:"flags"`
	// PTS is a terminal's number, which all that /dev/ptmx gave need to be told
	// apart.
	PTS uint32 `json:"pts,omitempty"`
}

// FlowState is how far the copying of one stream has come.
type FlowState struct {
	// Pending has been taken from the source and not been delivered.
	Pending []byte `json:"pending,omitempty"`
	// Taken, Delivered and Dropped count bytes: those read from the source; of
	// these those that reached the destination or were given up; of these those
	// given up. Taken less Delivered is the length of Pending.
	Taken     uint64 `json:"taken,omitempty"`
	Delivered uint64 `json:"delivered,omitempty"`
	Dropped   uint64 `json:"dropped,omitempty"`
	// Empties counts how often the source was found empty.
	Empties uint64 `json:"empties,omitempty"`
	// SourceEnded says that nothing is to be read any more.
	SourceEnded bool `json:"sourceEnded,omitempty"`
	// Failed says that the destination has failed and that the log tells so;
	// GivenUp that what is read is dropped.
	Failed  bool `json:"failed,omitempty"`
	GivenUp bool `json:"givenUp,omitempty"`
	// Exited says that the process has ended, Cut that the source is to be taken
	// for ended though a process still holds it (see IO.Finish).
	Exited bool `json:"exited,omitempty"`
	Cut    bool `json:"cut,omitempty"`
	// Ended says that the copying is over.
	Ended bool `json:"ended,omitempty"`
}

// InputState is the process's stdin.
type InputState struct {
	// FIFO says that the client's end is a named pipe.
	FIFO bool `json:"fifo,omitempty"`
	FlowState
}

// OutputState is the process's stdout or stderr.
type OutputState struct {
	// Stream is "stdout" or "stderr".
	Stream string `json:"stream"`
	// FIFO says that the client's end is a named pipe.
	FIFO bool `json:"fifo,omitempty"`
	// Shared says that both outputs go through one descriptor, that of stdout.
	Shared bool `json:"shared,omitempty"`
	// Released says that, after the copying, the client's end is closed as well.
	Released bool `json:"released,omitempty"`
	FlowState
}

// LoggerState is a logging program. It has said that it is ready: before that
// there is no IO.
type LoggerState struct {
	// PID is its process id.
	PID int `json:"pid"`
	// Ended says that it has ended and been reaped, Error how if not with status 0.
	Ended bool   `json:"ended,omitempty"`
	Error string `json:"error,omitempty"`
	// Dropping are the slots of its pipes from which output is read and dropped,
	// because it has ended before the process.
	Dropping []string `json:"dropping,omitempty"`
}

// FinishState is a call of IO.Finish under way. Durations are nanoseconds.
type FinishState struct {
	// Marks are the positions up to which the outputs are to be delivered.
	Marks []MarkState `json:"marks,omitempty"`
	// Bounded says that DrainLeft is the time left for that.
	Bounded   bool  `json:"bounded,omitempty"`
	DrainLeft int64 `json:"drainLeft,omitempty"`
	// Drained says that it is done; LingerLeft is then the time left for the
	// processes that hold the outputs, and before that the whole time for them.
	Drained    bool  `json:"drained,omitempty"`
	LingerLeft int64 `json:"lingerLeft,omitempty"`
}

// deadline is what is left for draining, from now on; zero if it has no bound.
func (f *FinishState) deadline() time.Time {
	if !f.Bounded {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(f.DrainLeft))
}

// MarkState is a position in an output; see FlowState for what it counts.
type MarkState struct {
	Stream    string `json:"stream"`
	Delivered uint64 `json:"delivered"`
	Empties   uint64 `json:"empties"`
}

// FDs returns the numbers of the descriptors that an image which goes on from s
// has to inherit.
func (s State) FDs() []int {
	fds := make([]int, 0, len(s.Descriptors))
	for _, d := range s.Descriptors {
		fds = append(fds, d.FD)
	}
	slices.Sort(fds)
	return fds
}
