// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
)

// TestStale: the OCI runtime has a container of the id already. One that lives, which
// another daemon may have made, is left alone, also by the cleanup of the create that
// it is in the way of; a dead one and a part of one are not in the way.
func TestStale(t *testing.T) {
	b := newBed(t)
	other := b.running("c", "sleep", "1000")
	mine := NewSet(b.set.env)
	cfg := b.config("c", "sleep", "1000")
	before := takeInventory(t)
	_, _, err := mine.Create(t.Context(), cfg)
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "already, which is running") || !strings.Contains(err.Error(), other.bundle.Path()) {
		t.Errorf("beside a living one: %v", err)
	}
	if got := b.status(other, ""); got.String() != "running" || mine.Len() != 0 {
		t.Fatalf("the other is %v; %d of this shim", got, mine.Len())
	}
	before.nothingMore(t)

	if err := other.Kill(t.Context(), "", syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.wait(other, "")
	b.remove(create(t, mine, cfg))

	if err := os.Mkdir(filepath.Join(b.fake.Root(), "c"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.remove(create(t, mine, cfg))
}

// create makes a container that runs.
func create(t *testing.T, s *Set, cfg CreateConfig) *Container {
	t.Helper()
	c, _, err := s.Create(t.Context(), cfg)
	if err == nil {
		_, err = c.Start(t.Context(), "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}
