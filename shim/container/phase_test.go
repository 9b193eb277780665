// SPDX-License-Identifier: Apache-2.0

package container

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// TestTransitionTable compares the table in the comment of phase, which readers
// go by, with the one that the machine goes by.
func TestTransitionTable(t *testing.T) {
	documented := map[string][]string{}
	for line := range strings.Lines(typeComment(t, "phase.go", "phase")) {
		from, to, ok := strings.Cut(line, "→")
		if from = strings.TrimSpace(from); !ok || !slices.Contains(phaseNames[:], from) || !strings.HasPrefix(line, "\t") {
			continue
		}
		next := []string{}
		for name := range strings.SplitSeq(to, "|") {
			if name = strings.TrimSpace(name); name != "" {
				next = append(next, name)
			}
		}
		documented[from] = next
	}
	actual := map[string][]string{}
	for from, next := range transitions {
		names := []string{}
		for _, p := range next {
			names = append(names, p.String())
		}
		actual[phase(from).String()] = names
	}
	if diff := cmp.Diff(documented, actual); diff != "" {
		t.Errorf("the comment (-) and the map (+) differ:\n%s", diff)
	}
}

func typeComment(t *testing.T, file, name string) string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE && g.Specs[0].(*ast.TypeSpec).Name.Name == name {
			return g.Doc.Text()
		}
	}
	t.Fatalf("%s has no type %s", file, name)
	return ""
}

// TestPhaseNames wants a name and a row of the table for each phase.
func TestPhaseNames(t *testing.T) {
	for what, n := range map[string][2]int{
		"names of phases":         {len(phaseNames), int(phaseDeleted) + 1},
		"rows of the table":       {len(transitions), int(phaseDeleted) + 1},
		"names of freezer states": {len(freezerNames), int(resuming) + 1},
	} {
		if n[0] != n[1] {
			t.Errorf("%d %s, want %d", n[0], what, n[1])
		}
	}
	seen := map[string]bool{}
	for _, name := range phaseNames {
		if seen[name] {
			t.Errorf("two phases are called %q", name)
		}
		seen[name] = true
	}
}

func TestStateErrorClasses(t *testing.T) {
	states := append(slices.Clone(phaseNames[:]), freezerNames[:]...)
	for _, state := range states {
		for _, exec := range []string{"", "e"} {
			err := error(&StateError{Container: "c", Process: exec, State: state, Action: "start"})
			notFound := state == phaseDeleted.String()
			if errdefs.IsNotFound(err) != notFound || errdefs.IsFailedPrecondition(err) == notFound {
				t.Errorf("%v: wrong class", err)
			}
			for _, part := range []string{`container "c"`, state, "start"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %q", err, part)
				}
			}
			if named := strings.Contains(err.Error(), `process "e"`); named != (exec != "") {
				t.Errorf("%q names the wrong process", err)
			}
		}
	}
}

// TestRefusals is what each state of an init and of an exec refuses, and as what.
func TestRefusals(t *testing.T) {
	const fine, precondition, notFound = "", "failed precondition", "not found"
	for _, tc := range []struct {
		phase                                     phase
		start, remove, exec, pause, resume, again string // the last: start of an exec that exists
	}{
		{phaseCreating, precondition, fine, precondition, precondition, precondition, fine},
		{phaseCreated, fine, fine, fine, precondition, precondition, fine},
		{phaseStarting, precondition, precondition, fine, precondition, precondition, fine},
		{phaseRunning, precondition, precondition, fine, fine, precondition, fine},
		{phaseExiting, precondition, precondition, precondition, precondition, precondition, precondition},
		{phaseStopped, precondition, fine, precondition, precondition, precondition, precondition},
		{phaseDeleting, precondition, fine, precondition, precondition, precondition, precondition},
		{phaseDeleted, notFound, notFound, notFound, notFound, notFound, precondition},
	} {
		for action, want := range map[string]string{
			"start": tc.start, "delete": tc.remove, "exec": tc.exec, "pause": tc.pause, "resume": tc.resume, "start exec": tc.again,
		} {
			m := newMachine("c", nil)
			m.init.phase = tc.phase
			m.execs["old"] = &process{id: "old", phase: phaseCreated}
			to := &call{}
			ev := map[string]event{
				"start": startRequest{"", to}, "delete": deleteRequest{"", to}, "exec": execRequest{"new", nil, to},
				"pause": freezeRequest{true, to}, "resume": freezeRequest{false, to}, "start exec": startRequest{"old", to},
			}[action]
			if got := refusal(m.step(ev)); got != want {
				t.Errorf("%s, %s: %q, want %q", tc.phase, action, got, want)
			}
		}
	}
}

// refusal is the class of the error among the answers; "" without one.
func refusal(effects []effect) string {
	for _, e := range effects {
		if a, ok := e.(answer); ok && a.out.err != nil {
			switch {
			case errdefs.IsNotFound(a.out.err):
				return "not found"
			case errdefs.IsFailedPrecondition(a.out.err):
				return "failed precondition"
			}
			return a.out.err.Error()
		}
	}
	return ""
}
