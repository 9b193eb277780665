// SPDX-License-Identifier: Apache-2.0

package events

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
)

// left reads what a spool still has, as "topic id".
func left(t *testing.T, dir string) []string {
	t.Helper()
	l, err := OpenLeftover(dir)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return names(t, l)
}

func names(t *testing.T, l *Leftover) []string {
	t.Helper()
	var out []string
	for _, e := range l.Events() {
		v, err := typeurl.UnmarshalByTypeURL(e.TypeURL, e.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Topic+" "+v.(interface{ GetContainerID() string }).GetContainerID())
	}
	return out
}

// TestLeftoverIsInOrder, also of a spool that was rewritten: each that is through
// says so of all before it, which must not pass over one that is not.
func TestLeftoverIsInOrder(t *testing.T) {
	d, dir := newDaemon(t), t.TempDir()
	p := inDir(t, dir, d.path, func(s *settings) {
		s.limits.spool = 4096
		s.backoff = backoff{time.Hour, time.Hour}
	})
	rewritten := false
	for i := 0; !rewritten; i++ {
		before := p.spool.size // nobody else writes
		if i%4 == 0 {
			publishInit(p, i)
		} else { // some of which have to go
			publishExec(p, i)
		}
		rewritten = p.spool.size < before
	}
	crash(p)
	l, err := OpenLeftover(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := names(t, l)
	if !slices.IsSortedFunc(l.Events(), func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) }) {
		t.Errorf("out of order: %q", want)
	}
	// Whoever delivers them is killed after the third.
	for range 3 {
		if err := l.done(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := left(t, dir); !slices.Equal(got, want[3:]) {
		t.Errorf("after three of %q are left %q", want, got)
	}
}
