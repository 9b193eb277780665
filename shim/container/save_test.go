// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// FuzzSaved: whatever is said of a container, it is refused with a class, or is one in
// a phase that can be gone on from.
func FuzzSaved(f *testing.F) {
	for _, name := range []string{"state-v1.json", "state-v2.json"} {
		content, err := os.ReadFile(filepath.Join("..", "testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		var s struct {
			Containers []json.RawMessage `json:"containers"`
		}
		if err := json.Unmarshal(content, &s); err != nil || len(s.Containers) == 0 {
			f.Fatalf("%s: %v", name, err)
		}
		f.Add([]byte(s.Containers[0]))
	}
	f.Add([]byte(`{"id":"c","init":{"phase":"running","pid":1},"execs":[{"phase":"created"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Saved
		if json.Unmarshal(data, &s) != nil {
			return // the envelope's reader says so
		}
		if err := s.Check(); err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v has no class", err)
			}
			return
		}
		for _, p := range append([]SavedProcess{s.Init}, s.Execs...) {
			at, _ := p.phase()
			if q := (&process{phase: at}); q.underWay() != "" {
				t.Errorf("%s is %s", p.ID, q.underWay())
			}
		}
		_ = s.FDs() // of any state
	})
}

// TestParkedSet: drivers rest when nothing is under way, say what it is otherwise, and
// go on when they are let.
func TestParkedSet(t *testing.T) {
	b := newBed(t)
	gate := b.fake.Gate("start")
	c := b.create("c", "sh", "-c", "echo out; sleep 1000")
	started := make(chan error, 1)
	go func() {
		_, err := c.Start(t.Context(), "")
		started <- err
	}()
	<-gate.Reached()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.set.Park(short); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), `container "c" is starting`) {
		t.Errorf("%v", err)
	}
	gate.Open()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	b.add(c, "e", "sleep", "1000")
	for range 2 {
		all, err := b.set.Park(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 1 || all[0].Check() != nil || all[0].Init.Phase != "running" || len(all[0].Execs) != 1 || all[0].Execs[0].Phase != "created" {
			t.Fatalf("%+v", all)
		}
		if s := all[0]; s.Init.IO == nil || s.Init.Process == nil || len(s.FDs()) == 0 || s.Execs[0].IO != nil {
			t.Errorf("%+v, %v", s.Init, s.FDs())
		}
		if p, err := c.State(""); err != nil || p.Status != Running { // the view stays
			t.Errorf("%+v, %v", p, err)
		}
		b.set.Unpark()
	}
	b.start(c, "e")
	b.remove(c)
}
