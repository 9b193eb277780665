// SPDX-License-Identifier: Apache-2.0

package events

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRoomThatCannotBeMade: what was dropped for it is told by nobody, though the
// spool could not be rewritten.
func TestRoomThatCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "."+spoolFile), 0o700); err != nil { // in the place of the new one
		t.Fatal(err)
	}
	p := inDir(t, dir, newDaemon(t).path, func(s *settings) {
		s.limits.spool = 4096
		s.backoff = backoff{time.Hour, time.Hour}
	})
	for i := 0; p.Stats().Dropped == 0; i++ {
		publishExec(p, i)
	}
	crash(p)
	want := 0
	count := func(e *entry, _ class) {
		if e.n > 0 {
			want++
		}
	}
	p.queue.all(count)
	if p.current != nil {
		count(p.current, p.class)
	}
	if got := left(t, dir); len(got) != want || want == 0 {
		t.Errorf("%d are told, and %d were not dropped", len(got), want)
	}
}
