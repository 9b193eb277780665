// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"

	"github.com/quoin-io/quoin/integration/harness"
	"github.com/quoin-io/quoin/shim/control"
)

// sequence checks a stream of numbered lines as it comes: each number is the one
// before it plus one. It keeps nothing.
type sequence struct {
	mu    sync.Mutex
	part  []byte
	next  int
	wrong string // the first line that was not as it should be
}

// counting is a shell's endless loop that prints such lines, so many seconds apart
// (none for as fast as they are taken), without a process for each.
func counting(pause string) string {
	wait := ""
	if pause != "" {
		wait = "read -t " + pause + " -u 3 x; "
	}
	return "mkfifo /tmp/never$$; exec 3<>/tmp/never$$; i=0; while :; do echo n$i; i=$((i+1)); " + wait + "done"
}

// Write takes what a stream delivers.
func (s *sequence) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part = append(s.part, p...)
	for {
		line, rest, ok := bytes.Cut(s.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		s.line(strings.TrimSuffix(string(line), "\r"))
		s.part = append(s.part[:0], rest...)
	}
}

func (s *sequence) line(text string) {
	if n, err := strconv.Atoi(strings.TrimPrefix(text, "n")); s.wrong == "" && (err != nil || n != s.next) {
		s.wrong = fmt.Sprintf("%.60q instead of n%d", text, s.next)
	}
	s.next++
}

// count is how many lines have come; it fails the test if one was wrong.
func (s *sequence) count(t testing.TB, what string) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != "" {
		t.Errorf("%s: %s", what, s.wrong)
	}
	return s.next
}

// flows waits until more lines have come.
func (s *sequence) flows(t testing.TB, what string) {
	t.Helper()
	from := s.count(t, what)
	harness.Eventually(t, what+" flows", func() string {
		if s.count(t, what) > from {
			return ""
		}
		return fmt.Sprintf("nothing after %d lines", from)
	})
}

// streamTo has a container's output go to a sequence.
func streamTo(s *sequence) cio.Creator { return cio.NewCreator(cio.WithStreams(nil, s, nil)) }

// patience is how long quoinctl waits for what should be immediate: the machine may
// stand still for seconds.
var patience = harness.Patience.String()

// shimsSeen asks the shims of a daemon about themselves, as quoinctl shows them.
func shimsSeen(t testing.TB, d *harness.Daemon) map[string]shimSeen {
	t.Helper()
	r := harness.Run(t, harness.Quoinctl.Path(), "shims", "ls", "--json", "--state", d.State, "--answer-within", patience)
	var all []shimSeen
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || r.Code != 0 {
		t.Fatalf("shims ls: %v, %+v", err, r)
	}
	byID := make(map[string]shimSeen, len(all))
	for _, s := range all {
		byID[s.ID] = s
	}
	return byID
}

// shimSeen is a shim as `quoinctl shims ls --json` shows it.
type shimSeen struct {
	ID, Status, Version, Error string
	PID, OpenFiles             int
	Memory                     control.Memory
	Totals                     control.Totals
	Containers                 []control.Container
}

// upgradeShims has shims of a daemon go on as a binary; more are arguments.
func upgradeShims(t testing.TB, d *harness.Daemon, to string, more ...string) harness.Result {
	t.Helper()
	return harness.Run(t, harness.Quoinctl.Path(), append([]string{"shims", "upgrade", "--state", d.State, "--answer-within", patience, "--to", to}, more...)...)
}

// mustUpgrade is upgradeShims for what has to succeed.
func mustUpgrade(t testing.TB, d *harness.Daemon, to string, more ...string) {
	t.Helper()
	if r := upgradeShims(t, d, to, append([]string{"--rest", patience}, more...)...); r.Code != 0 {
		t.Fatalf("upgrade to %s: %+v", to, r)
	}
}

// bornAt tells one process from another of the same pid: when it was started, in ticks
// since boot (field 22 of /proc/<pid>/stat).
func bornAt(t testing.TB, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[19]
}
