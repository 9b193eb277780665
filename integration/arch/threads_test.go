// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoLockedThreads: a goroutine of the resident shim that ends while it has a
// thread locked ends the thread, and with it every OCI runtime that this thread
// has forked: their death signal is sent when the thread ends (shim/oci/run.go).
// shim/start.go belongs to the action start, which runs no runtime.
func TestNoLockedThreads(t *testing.T) {
	for _, p := range theModule(t).ours {
		if !within(p.rel(), "shim") || strings.HasSuffix(p.rel(), "test") {
			continue
		}
		for _, name := range p.GoFiles {
			if p.rel() == "shim" && name == "start.go" {
				continue
			}
			for _, line := range mentions(t, filepath.Join(p.Dir, name), "LockOSThread") {
				t.Errorf("%s/%s:%d locks a thread", p.rel(), name, line)
			}
		}
	}
}

// mentions returns the lines at which a file selects a name.
func mentions(t *testing.T, path, name string) []int {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			lines = append(lines, set.Position(n.Pos()).Line)
		}
		return true
	})
	return lines
}

// TestMentions keeps TestNoLockedThreads honest.
func TestMentions(t *testing.T) {
	if lines := mentions(t, filepath.Join("..", "..", "shim", "start.go"), "LockOSThread"); len(lines) != 1 {
		t.Errorf("shim/start.go locks a thread at lines %v", lines)
	}
}
