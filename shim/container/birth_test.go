// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/ledger"
	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// same says that a record names a process that lives, and nothing later of its pid.
func same(t *testing.T, got ledger.Identity, pid int) {
	t.Helper()
	want, err := ledger.Identify(pid)
	if err != nil || got != want {
		t.Errorf("process %+v, want %+v, %v", got, want, err)
	}
}

// TestBirth: what may have to be ended is on disk before it exists, what exists
// before anybody is told of it, and nothing once nothing is left.
func TestBirth(t *testing.T) {
	b := newBed(t)
	cfg := b.config("c", "sleep", "1000")
	placed(t, cfg, "/quoin-test/born")
	gate := b.fake.Gate("create")
	type result struct {
		c   *Container
		pid int
		err error
	}
	created := make(chan result, 1)
	go func() {
		c, pid, err := b.set.Create(t.Context(), cfg)
		created <- result{c, pid, err}
	}()
	<-gate.Reached()
	birth, err := ledger.ReadBirth(cfg.Bundle)
	if err != nil || birth.Process != (ledger.Identity{}) || birth.CgroupsPath != "/quoin-test/born" {
		t.Errorf("before the runtime has done its part: %+v, %v", birth, err)
	}
	same(t, birth.Shim, os.Getpid())
	gate.Open()
	r := <-created
	if r.err != nil {
		t.Fatal(r.err)
	}
	if birth, err = ledger.ReadBirth(cfg.Bundle); err != nil {
		t.Fatal(err)
	}
	same(t, birth.Process, r.pid)
	if birth.CgroupsPath != "/quoin-test/born" {
		t.Errorf("the cgroup is %q", birth.CgroupsPath)
	}
	if wd, err := os.Getwd(); err != nil || birth.Spool != wd {
		t.Errorf("events are in %q, %v", birth.Spool, err)
	}

	b.start(r.c, "")
	b.add(r.c, "e", "sleep", "1000")
	pid := b.start(r.c, "e")
	exec, err := ledger.ReadExecBirth(cfg.Bundle, "e")
	if err != nil {
		t.Fatal(err)
	}
	same(t, exec.Process, pid)
	if err := r.c.Kill(t.Context(), "e", unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.wait(r.c, "e")
	b.delete(r.c, "e")
	if births, err := ledger.ExecBirths(cfg.Bundle); err != nil || len(births) > 0 {
		t.Errorf("after the exec's delete: %+v, %v", births, err)
	}
	b.remove(r.c)
	if birth, err := ledger.ReadBirth(cfg.Bundle); !errdefs.IsNotFound(err) {
		t.Errorf("after the delete: %+v, %v", birth, err)
	}
}

// TestBirthOfAFailedCreate is kept only if something may be left.
func TestBirthOfAFailedCreate(t *testing.T) {
	b := newBed(t)
	cfg := b.config("c", "sleep", "1000")
	b.fake.Set("create", ocitest.Failpoint{Exit: 1, Message: "no", Times: 2})
	if _, _, err := b.set.Create(t.Context(), cfg); err == nil {
		t.Fatal("created")
	}
	if birth, err := ledger.ReadBirth(cfg.Bundle); !errdefs.IsNotFound(err) {
		t.Errorf("all is undone, and still: %+v, %v", birth, err)
	}
	b.fake.Set("delete", ocitest.Failpoint{Exit: 1, Message: "no", Times: 1})
	if _, _, err := b.set.Create(t.Context(), cfg); err == nil {
		t.Fatal("created")
	}
	if _, err := ledger.ReadBirth(cfg.Bundle); err != nil {
		t.Errorf("the runtime may still have something: %v", err)
	}
}
