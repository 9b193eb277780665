// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPackageDocs wants each package to say, in doc.go, what it owns. A command
// may say it in its main.go.
func TestPackageDocs(t *testing.T) {
	for _, p := range theModule(t).ours {
		if len(p.GoFiles) == 0 {
			if !slices.Contains(p.TestGoFiles, "doc_test.go") && len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
				t.Errorf("%s has tests but no doc.go", p.rel())
			}
			continue
		}
		begin := "Package " + p.Name + " "
		if p.Name == "main" {
			begin = "Command " + filepath.Base(p.ImportPath) + " "
		} else if !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go", p.rel())
		}
		if !strings.HasPrefix(p.Doc, begin) {
			t.Errorf("%s: its comment begins %q, not %q", p.rel(), p.Doc, begin)
		}
	}
}

// TestFiles checks what every source file of ours has to be like.
func TestFiles(t *testing.T) {
	vague := []string{"util", "utils", "common", "helper", "helpers", "misc"}
	for _, p := range theModule(t).ours {
		if slices.Contains(vague, p.Name) {
			t.Errorf("package %s: name what it owns", p.rel())
		}
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			path := filepath.Join(p.Dir, name)
			stem := strings.TrimSuffix(strings.TrimSuffix(name, ".go"), "_test")
			if slices.Contains(vague, stem) {
				t.Errorf("%s/%s: name the file after its topic", p.rel(), name)
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(source), "// SPDX-License-Identifier: Apache-2.0\n") {
				t.Errorf("%s/%s does not begin with its licence", p.rel(), name)
			}
			if strings.HasSuffix(name, "_test.go") || within(p.rel(), "plugins") {
				continue
			}
			for _, decl := range initFunctions(t, path, source) {
				t.Errorf("%s/%s:%d has an init function: only plugins register themselves", p.rel(), name, decl)
			}
		}
	}
}

// initFunctions returns the lines at which a file has one.
func initFunctions(t *testing.T, path string, source []byte) []int {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			lines = append(lines, set.Position(f.Pos()).Line)
		}
	}
	return lines
}
