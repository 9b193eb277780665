// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/harness"
)

// line is one line of a log in CRI's format: time, stream, tag, content.
type line struct {
	when    time.Time
	stream  string
	partial bool
	content string
}

// parseLog reads a log as kubelet does.
func parseLog(path string) ([]line, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lines []line
	for text := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSuffix(text, "\n"), " ", 4)
		if len(fields) != 4 {
			return nil, fmt.Errorf("line %q has no four fields", text)
		}
		when, err := time.Parse(time.RFC3339Nano, fields[0])
		if err != nil {
			return nil, fmt.Errorf("line %.80q: %w", text, err)
		}
		if !slices.Contains([]string{"F", "P"}, fields[2]) {
			return nil, fmt.Errorf("line %.80q: tag %q", text, fields[2])
		}
		lines = append(lines, line{when, fields[1], fields[2] == "P", fields[3]})
	}
	return lines, nil
}

func awaitLog(t *testing.T, m *harness.Member, want string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("the log has %q", want), func() string {
		lines, err := parseLog(m.Log)
		if err != nil {
			return err.Error()
		}
		if !slices.ContainsFunc(lines, func(l line) bool { return l.content == want }) {
			return fmt.Sprint(lines)
		}
		return ""
	})
}

func TestLogs(t *testing.T) {
	t.Parallel()
	n := node(t)
	script := `echo one; echo two >&2; i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done
		head -c 40000 /dev/zero | tr '\0' x; echo; printf 'no newline'`
	m := n.RunPod(t, "chatty").Run(t, "app", []string{"sh", "-c", script})
	began := time.Now()
	if s := m.AwaitExit(t); s.ExitCode != 0 {
		t.Fatalf("exit code %d", s.ExitCode)
	}
	lines, err := parseLog(m.Log)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs []string
	long, parts := "", 0
	for _, l := range lines {
		if age := began.Sub(l.when); age > time.Minute || age < -time.Minute {
			t.Fatalf("line %.60q has the time %v", l.content, l.when)
		}
		switch {
		case l.stream == "stderr":
			errs = append(errs, l.content)
		case l.partial || long != "" && strings.Trim(l.content, "x") == "":
			long += l.content
			parts++
		default:
			out = append(out, l.content)
		}
	}
	if !slices.Equal(errs, []string{"two"}) {
		t.Errorf("stderr %q", errs)
	}
	if len(out) != 5001 || out[0] != "one" || out[1] != "line 0" || out[5000] != "line 4999" {
		t.Errorf("stdout has %d lines, first %.80q, last %.80q", len(out), out[0], out[len(out)-1])
	}
	if want := strings.Repeat("x", 40000) + "no newline"; long != want || parts < 3 {
		t.Errorf("the long line is %d bytes in %d parts", len(long), parts)
	}
}
