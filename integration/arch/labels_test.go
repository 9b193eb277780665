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

// TestNoLabelIsActedUpon: an image's labels become its containers', and containerd
// takes only those of its own reserved names out. Whoever acts on another lets an
// image decide what runs on the host (CVE-2026-53488 was a logger named by a label).
// So no product code reads labels at all.
func TestNoLabelIsActedUpon(t *testing.T) {
	looked := 0
	for _, p := range theModule(t).ours {
		if !within(p.rel(), "shim") && !within(p.rel(), "plugins") && !within(p.rel(), "config") && !within(p.rel(), "cmd") {
			continue
		}
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			looked++
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && strings.HasSuffix(s.Sel.Name, "Labels") {
					t.Errorf("%s uses %s: labels may come from an image", set.Position(s.Pos()), s.Sel.Name)
				}
				return true
			})
		}
	}
	if looked < 100 {
		t.Errorf("only %d files were looked at", looked)
	}
}
