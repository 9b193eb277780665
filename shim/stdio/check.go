// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxPending is more than any writer of a State leaves undelivered per stream.
const maxPending = 1 << 20

// invalid is the error of a State that cannot be true.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// check compares s with itself and returns what its streams mean. It touches no
// descriptor and no file.
func (s *State) check() (plan, error) {
	p, err := newPlan(Streams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Terminal: s.Terminal})
	if err != nil {
		return plan{}, err
	}
	if s.Phase != phaseNames[phaseOpen] && s.Phase != phaseNames[phaseStarted] {
		return plan{}, invalid("unknown phase %q", s.Phase)
	}
	if (s.ConsoleDir != "") != (s.Terminal && !s.started()) || !validConsoleDir(s.ConsoleDir) {
		return plan{}, invalid("phase %q with terminal=%t and console directory %q", s.Phase, s.Terminal, s.ConsoleDir)
	}
	for _, check := range []func(plan) error{s.checkInput, s.checkOutputs, s.checkLogger, s.checkFinish, s.checkDescriptors} {
		if err := check(p); err != nil {
			return plan{}, err
		}
	}
	return p, nil
}

func (s *State) started() bool { return s.Phase == phaseNames[phaseStarted] }

// validConsoleDir tells a plain name: the directory is removed in the end.
func validConsoleDir(name string) bool {
	return name == "" || strings.HasPrefix(name, "c") && name == filepath.Base(name)
}

func (s *State) checkInput(p plan) error {
	if (s.Input != nil) != (p.stdin.kind != kindNone) {
		return invalid("input of stdin %q", s.Stdin)
	}
	if s.Input == nil {
		return nil
	}
	if !s.Input.FIFO && p.stdin.kind == kindFIFO {
		return invalid("stdin %q with fifo=%t", s.Stdin, s.Input.FIFO)
	}
	if s.Input.Cut || s.Input.Exited {
		return invalid("stdin ends with the process's output")
	}
	return s.checkFlow("stdin", s.Input.FlowState)
}

func (s *State) checkFlow(name string, f FlowState) error {
	switch {
	case f.Delivered > f.Taken || f.Dropped > f.Delivered || f.Taken-f.Delivered != uint64(len(f.Pending)):
		return invalid("%s: %d bytes taken, %d delivered, %d of them dropped, %d pending", name, f.Taken, f.Delivered, f.Dropped, len(f.Pending))
	case len(f.Pending) > maxPending:
		return invalid("%s: %d bytes pending", name, len(f.Pending))
	case f.Ended && len(f.Pending) > 0:
		return invalid("%s: ended with %d bytes pending", name, len(f.Pending))
	case f.GivenUp && !f.Failed:
		return invalid("%s: given up without a failure", name)
	case !s.started() && (f.Taken > 0 || f.Empties > 0 || f.SourceEnded || f.Failed || f.Exited || f.Cut || f.Ended):
		return invalid("%s: was copied before the start", name)
	}
	return nil
}

// copied are the outputs that the shim copies, of which a State tells.
func (p plan) copied(terminal bool) []*output {
	return slices.DeleteFunc(p.outputs(terminal), func(o *output) bool { return o.direct })
}

func (s *State) checkOutputs(p plan) error {
	planned := p.copied(s.Terminal)
	if len(s.Outputs) != len(planned) {
		return invalid("%d outputs instead of %d", len(s.Outputs), len(planned))
	}
	for n, o := range s.Outputs {
		kind := planned[n].to.kind
		switch {
		case o.Stream != planned[n].name:
			return invalid("output %q instead of %q", o.Stream, planned[n].name)
		case o.FIFO && kind != kindFIFO && kind != kindPath, !o.FIFO && kind == kindFIFO:
			return invalid("%s %q with fifo=%t", o.Stream, planned[n].to.path, o.FIFO)
		case o.Shared && (len(s.Outputs) != 2 || !s.Outputs[1-n].Shared || o.FIFO):
			return invalid("%s is shared with nobody", o.Stream)
		case o.Released && !o.Ended:
			return invalid("%s is released before its end", o.Stream)
		}
		if err := s.checkFlow(o.Stream, o.FlowState); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkLogger(p plan) error {
	l := s.Logger
	if (l != nil) != p.stdout.logger() {
		return invalid("logger of stdout %q", s.Stdout)
	}
	if l == nil {
		return nil
	}
	if l.PID < 2 || !l.Ended && (l.Error != "" || len(l.Dropping) > 0) {
		return invalid("logger with pid %d, ended=%t, error %q, output dropped from %v", l.PID, l.Ended, l.Error, l.Dropping)
	}
	for n, name := range l.Dropping {
		if name != loggerStdout.String() && name != loggerStderr.String() || slices.Contains(l.Dropping[:n], name) {
			return invalid("output of a logger dropped from %v", l.Dropping)
		}
	}
	return nil
}

func (s *State) checkFinish(plan) error {
	f := s.Finish
	if f == nil {
		return nil
	}
	if !s.started() || f.DrainLeft < 0 || f.LingerLeft < 0 || len(f.Marks) != len(s.Outputs) {
		return invalid("end of the outputs in phase %q, %d of %d marks, durations %d and %d", s.Phase, len(f.Marks), len(s.Outputs), f.DrainLeft, f.LingerLeft)
	}
	for n, m := range f.Marks {
		if m.Stream != s.Outputs[n].Stream {
			return invalid("mark of %q instead of %q", m.Stream, s.Outputs[n].Stream)
		}
	}
	return nil
}

// slotByName is the inverse of slot.String.
func slotByName(name string) (slot, bool) {
	n := slices.Index(slotNames[:], name)
	return slot(n), n >= 0
}

// checkDescriptors compares what s has with what its streams need.
func (s *State) checkDescriptors(p plan) error {
	need := s.needs(p)
	seen := map[string]int{}
	for n, d := range s.Descriptors {
		use, ok := need[d.Slot]
		switch {
		case !ok:
			return invalid("there is no use for a descriptor %q", d.Slot)
		case seen[d.Slot] > 0:
			return invalid("two descriptors %q", d.Slot)
		case d.FD < 0 || slices.ContainsFunc(s.Descriptors[:n], func(e DescriptorState) bool { return e.FD == d.FD }):
			return invalid("descriptor %q has the number %d", d.Slot, d.FD)
		case use.write && d.Flags&unix.O_ACCMODE == unix.O_RDONLY, use.read && d.Flags&unix.O_ACCMODE == unix.O_WRONLY:
			return invalid("descriptor %q is of the other direction (flags %#x)", d.Slot, d.Flags)
		case use.polled && d.Flags&unix.O_NONBLOCK == 0:
			return invalid("descriptor %q blocks (flags %#x)", d.Slot, d.Flags)
		}
		seen[d.Slot]++
	}
	for name, use := range need {
		if !use.optional && seen[name] == 0 {
			return invalid("no descriptor %q", name)
		}
	}
	return nil
}

// use is what a descriptor is needed for.
type use struct {
	read, write bool // what is done with it
	polled      bool // in Go's poller
	optional    bool // it may be closed already
}

// needs tells the descriptors of s by the names of their slots.
func (s *State) needs(p plan) map[string]use {
	need := map[string]use{}
	if s.Terminal && s.started() {
		need[consoleMaster.String()] = use{read: true, write: true, polled: true}
	} else if s.Terminal {
		need[consoleSocketSlot] = use{}
	}
	s.inputNeeds(need)
	for n, o := range p.copied(s.Terminal) {
		s.outputNeeds(need, o, s.Outputs[n])
	}
	if l := s.Logger; l != nil {
		for _, name := range []string{loggerStdout.String(), loggerStderr.String()} {
			need[name] = use{read: true, polled: slices.Contains(l.Dropping, name)}
		}
		if !l.Ended {
			need[loggerPidfd.String()] = use{polled: true}
		}
		if !s.Terminal && !s.started() {
			need[childStdout.String()], need[childStderr.String()] = use{write: true}, use{write: true}
		}
	}
	return need
}

func (s *State) inputNeeds(need map[string]use) {
	in := s.Input
	if in == nil || in.Ended {
		if in != nil && in.FIFO {
			need[stdinKeeper.String()] = use{write: true, optional: true}
		}
		return
	}
	if s.started() || !in.FIFO {
		need[stdinSource.String()] = use{read: true, polled: in.FIFO}
	}
	if s.started() && in.FIFO {
		need[stdinKeeper.String()] = use{write: true, optional: true}
	}
	if !s.Terminal {
		need[stdinSink.String()] = use{write: true, polled: true}
		if !s.started() {
			need[childStdin.String()] = use{read: true}
		}
	}
}

func (s *State) outputNeeds(need map[string]use, to *output, o OutputState) {
	if !s.Terminal && !o.Ended {
		need[to.source.String()] = use{read: true, polled: true}
		if !s.started() {
			need[to.child.String()] = use{write: true}
		}
	}
	second := o.Shared && to.sink == stderrSink
	if to.to.kind == kindNone || second || o.FIFO && !s.started() {
		return
	}
	need[to.sink.String()] = use{
		write:    true,
		polled:   o.FIFO || to.to.logger(),
		optional: o.Released && !slices.ContainsFunc(s.Outputs, func(o OutputState) bool { return o.Shared && !o.Released }),
	}
	if o.FIFO {
		need[to.keeper.String()] = use{read: true, optional: o.Ended}
	}
}
