// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestRemoveLegacy(t *testing.T) {
	p := start(t, "idle")
	c := makeLegacy(t, p.Process.Pid)
	for _, dir := range c.dirs() {
		must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.Remove(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("with a process in it: %v, want a deadline", err)
	}
	if !c.Exists() {
		t.Fatal("it went while a process was in it")
	}
	must(t, c.Kill(within(t, 30*time.Second), unix.SIGKILL))
	must(t, c.Remove(within(t, 30*time.Second)))
	if c.Exists() {
		t.Fatal("it is still there")
	}
	must(t, c.Remove(within(t, 30*time.Second)))
}

func TestRemoveRefusesTheRoot(t *testing.T) {
	c := &Cgroup{mode: Legacy, top: true}
	if err := c.Remove(context.Background()); !errdefs.IsFailedPrecondition(err) {
		t.Fatalf("%v, want ErrFailedPrecondition", err)
	}
	var none *Cgroup
	must(t, none.Remove(context.Background()))
}
