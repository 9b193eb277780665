// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quoin-io/quoin/shim/reaper"
)

var rewrite = flag.Bool("rewrite", false, "write what the machine does now into testdata")

// TestScenarios plays the scenarios of testdata. In a file, a line that is not
// indented is an event; the lines below it are the effects that it has, and the
// state afterwards where it changed. testdata/README says what events there are.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(data))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(data), got); diff != "" {
				t.Errorf("the file (-) and the machine (+) differ; -rewrite takes the machine's word:\n%s", diff)
			}
		})
	}
}

// stage plays one scenario.
type stage struct {
	m       *machine
	calls   callNames
	create  *call
	handles map[*handle]string
	freezes []*call // answered by the results of pause and resume, in order
}

// play plays a scenario and returns it with the effects that it has.
func play(t *testing.T, text string) string {
	h := newHandle(Streams{}, nil)
	s := &stage{m: newMachine("c", h), calls: callNames{}, handles: map[*handle]string{h: "init"}}
	s.create = s.calls.add("create")
	var out strings.Builder
	state := s.m.describeState()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "\t"):
			continue // what it was before
		case line == "", strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
			continue
		}
		ev, err := s.event(strings.Fields(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out.WriteString(line + "\n")
		for _, e := range s.m.step(ev) {
			out.WriteString("\t" + s.calls.describe(e, s.who) + "\n")
			if f, ok := e.(freezeOp); ok {
				s.freezes = append(s.freezes, f.to)
			}
		}
		if now := s.m.describeState(); now != state {
			state = now
			out.WriteString("\t= " + state + "\n")
		}
	}
	return out.String()
}

func (s *stage) who(h *handle) string { return s.handles[h] }

// event makes the event of a line.
func (s *stage) event(words []string) (event, error) {
	verb, exec := words[0], ""
	o := options{}
	for _, w := range words[1:] {
		switch name, value, _ := strings.Cut(w, "="); name {
		case "pid", "status":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, err
			}
			o[name] = n
		case "restore", "shared", "failed":
			o[name] = 1
		case "init":
		default:
			exec = w
		}
	}
	return s.make(verb, exec, o)
}

// options of an event.
type options map[string]int

func (o options) err() error {
	if o["failed"] == 1 {
		return errors.New("it failed")
	}
	return nil
}

func (s *stage) make(verb, exec string, o options) (event, error) {
	switch verb {
	case "created":
		return created{pid: o["pid"], restore: o["restore"] == 1, killOnExit: o["shared"] == 1, err: o.err(), to: s.create}, nil
	case "start":
		return startRequest{exec, s.calls.add(verb)}, nil
	case "started":
		return started{exec: exec, pid: o["pid"], err: o.err()}, nil
	case "exec":
		h := newHandle(Streams{}, nil)
		s.handles[h] = exec
		return execRequest{exec, h, s.calls.add(verb)}, nil
	case "delete":
		return deleteRequest{exec, s.calls.add(verb)}, nil
	case "deleted":
		return deleted{exec, o.err()}, nil
	case "exited":
		p, err := s.m.process(exec)
		if err != nil {
			return nil, err
		}
		return exited{exec, p.h, reaper.Exit{Status: o["status"]}}, nil
	case "recorded":
		return recorded{exec: exec}, nil
	case "overdue":
		return execsOverdue{}, nil
	case "pause", "resume":
		return freezeRequest{verb == "pause", s.calls.add(verb)}, nil
	case "paused", "resumed":
		if len(s.freezes) == 0 {
			return nil, errors.New("nothing was asked for")
		}
		to := s.freezes[0]
		s.freezes = s.freezes[1:]
		return frozen{verb == "paused", o.err(), to}, nil
	}
	return nil, fmt.Errorf("unknown event %q", verb)
}
