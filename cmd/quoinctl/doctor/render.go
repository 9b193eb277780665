// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// screen is where the text goes.
type screen struct {
	w io.Writer
	// colour is used on a terminal only.
	colour bool
	// width is that of the terminal; 0 leaves lines as long as they are.
	width int
}

// screenOf looks whether w is a terminal. NO_COLOR (no-color.org), if set to
// anything, and TERM=dumb forbid colour.
func screenOf(w io.Writer, getenv func(string) string) screen {
	s := screen{w: w}
	file, ok := w.(*os.File)
	if !ok {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s
	}
	s.width = int(size.Col)
	s.colour = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return s
}

func (r *Report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// colours of SGR.
var colours = map[Status]string{OK: "32", Warn: "33", Fail: "31"}

func (s screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// writeText writes a paragraph for each group: status, title, message, and
// below it what to do.
func (r *Report) writeText(s screen) error {
	var b strings.Builder
	title := 0
	for _, f := range r.Findings {
		title = max(title, len(f.Title))
	}
	indent := len("  fail  ") + title + 2
	group := ""
	for _, f := range r.Findings {
		if f.Group != group {
			if group != "" {
				b.WriteByte('\n')
			}
			group = f.Group
			b.WriteString(s.paint("1", group) + "\n")
		}
		status := s.paint(colours[f.Status], fmt.Sprintf("%-4s", f.Status))
		fmt.Fprintf(&b, "  %s  %-*s  %s\n", status, title, f.Title, s.wrap(f.Message, indent))
		if f.Fix != "" {
			fmt.Fprintf(&b, "%*s→ %s\n", indent, "", s.wrap(f.Fix, indent+2))
		}
	}
	fmt.Fprintf(&b, "\n%s, %s, %s\n",
		s.count(OK, r.Counts[OK], "ok"), s.count(Warn, r.Counts[Warn], plural(r.Counts[Warn], "warning")), s.count(Fail, r.Counts[Fail], plural(r.Counts[Fail], "failure")))
	_, err := io.WriteString(s.w, b.String())
	return err
}

func (s screen) count(st Status, n int, word string) string {
	text := fmt.Sprintf("%d %s", n, word)
	if n == 0 {
		return text
	}
	return s.paint(colours[st], text)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// wrap breaks text between words, for lines that begin at column indent.
func (s screen) wrap(text string, indent int) string {
	room := s.width - indent - 1
	text = strings.Join(strings.Fields(text), " ")
	if s.width == 0 || room < 20 {
		return text
	}
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(text, " ") {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > room:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
