// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// TestFailedCreateLeavesNoCgroup: a runtime that fails may have made a cgroup and
// not know of it any more. One that was there before is not ours to remove.
func TestFailedCreateLeavesNoCgroup(t *testing.T) {
	for _, before := range []bool{false, true} {
		b := newBed(t)
		cfg := b.config("c", "true")
		name := fmt.Sprintf("/quoin-test-%d-%v", os.Getpid(), before)
		placed(t, cfg, name)
		// One hierarchy will do: the cgroup is found where it exists.
		dir := filepath.Join(hierarchy(t), name)
		t.Cleanup(func() { _ = os.Remove(dir) })
		if before {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			// The kernel's clock for files may be a tick behind the one that a
			// create goes by, never ahead of it.
			eventually(t, "the clock has moved", func() bool {
				st, err := os.Stat(dir)
				return err == nil && time.Since(st.ModTime()) > 20*time.Millisecond
			})
		}
		b.fake.Set("create", failsOnce)
		gate := b.fake.Gate("create")
		made := make(chan error, 1)
		go func() { _, _, err := b.set.Create(t.Context(), cfg); made <- err }()
		<-gate.Reached()
		if !before {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		gate.Open()
		if err := <-made; err == nil {
			t.Fatal("it was created")
		}
		if _, err := os.Stat(dir); (err == nil) != before {
			t.Errorf("there before: %v; now: %v", before, err)
		}
	}
}

// placed asks for a cgroup, by its path.
func placed(t testing.TB, cfg CreateConfig, cgroupsPath string) {
	t.Helper()
	path := filepath.Join(cfg.Bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "{", `{"linux":{"cgroupsPath":"`+cgroupsPath+`"},`, 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hierarchy is where one of the machine's cgroup hierarchies is mounted.
func hierarchy(t testing.TB) string {
	t.Helper()
	root, err := cgroup.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	return root.Dir()
}
