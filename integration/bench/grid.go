// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// grid is a table of text: columns as wide as their widest cell, the first to
// the left and the others to the right, with titles across them.
type grid struct {
	lines  [][]string // a title is a line of one cell
	widths []int
}

func (g *grid) title(text string) { g.lines = append(g.lines, []string{text}) }

func (g *grid) row(cells ...string) {
	g.lines = append(g.lines, cells)
	for i, cell := range cells {
		if i == len(g.widths) {
			g.widths = append(g.widths, 0)
		}
		g.widths[i] = max(g.widths[i], utf8.RuneCountInString(cell))
	}
}

func (g *grid) print(w io.Writer) {
	for _, line := range g.lines {
		var out strings.Builder
		for i, cell := range line {
			switch {
			case len(line) == 1:
				out.WriteString(cell)
			case i == 0:
				fmt.Fprintf(&out, "%-*s", g.widths[i], cell)
			default:
				fmt.Fprintf(&out, "  %*s", g.widths[i], cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(out.String(), " "))
	}
}
