// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/oci"
	"github.com/quoin-io/quoin/shim/oci/ocitest"
	"github.com/quoin-io/quoin/shim/reaper"
)

func TestMain(m *testing.M) { ocitest.Main(m) }

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// theReaper is this process's only one, as in a shim. It takes every child, so
// that no test here may start one by itself.
var theReaper = sync.OnceValues(reaper.New)

// bed is a set of containers that a fake OCI runtime makes, out of real processes.
type bed struct {
	t      testing.TB
	set    *Set
	fake   *ocitest.Fake
	events *recorder
	oom    *oomWatched
}

func newBed(t testing.TB, change ...func(*Env)) *bed {
	t.Helper()
	r, err := theReaper()
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, events: &recorder{changed: make(chan struct{})}, oom: &oomWatched{}}
	t.Cleanup(func() { // runs last, when the fake has killed what was left
		eventually(t, "all processes are gone, and nobody waits for one", func() bool {
			return len(childProcesses()) == 0 && !slices.Contains(takeInventory(t).fds, "anon_inode:[pidfd]")
		})
	})
	b.fake = ocitest.New(t)
	env := Env{
		Namespace:   filepath.Base(b.fake.Root()), // the last part of what the runtime is told
		Reaper:      r,
		Publisher:   b.events,
		OOM:         b.oom,
		Known:       oci.NewKnown(),
		Deadlines:   config.DefaultDeadlines(),
		RuntimeRoot: filepath.Dir(b.fake.Root()),
		Executable:  "/usr/bin/shim",
	}
	for _, c := range change {
		c(&env)
	}
	b.set = NewSet(env)
	return b
}

// config makes a bundle and says how to create it.
func (b *bed) config(id string, args ...string) CreateConfig {
	b.t.Helper()
	return CreateConfig{ID: id, Bundle: ocitest.Bundle(b.t, args...), Options: Options{BinaryName: b.fake.Binary()}}
}

func (b *bed) create(id string, args ...string) *Container {
	b.t.Helper()
	return b.createBy(b.config(id, args...))
}

func (b *bed) createBy(cfg CreateConfig) *Container {
	b.t.Helper()
	c, pid, err := b.set.Create(b.t.Context(), cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	if pid <= 0 && cfg.Checkpoint == "" {
		b.t.Fatalf("pid %d", pid)
	}
	return c
}

func (b *bed) running(id string, args ...string) *Container {
	b.t.Helper()
	c := b.create(id, args...)
	b.start(c, "")
	return c
}

func (b *bed) start(c *Container, exec string) int {
	b.t.Helper()
	pid, err := c.Start(b.t.Context(), exec)
	if err != nil {
		b.t.Fatal(err)
	}
	return pid
}

// exec adds an exec and starts it.
func (b *bed) exec(c *Container, id string, args ...string) {
	b.t.Helper()
	b.add(c, id, args...)
	b.start(c, id)
}

func (b *bed) add(c *Container, id string, args ...string) {
	b.t.Helper()
	if err := c.Exec(b.t.Context(), ExecConfig{ID: id, Spec: ociProcess(args...)}); err != nil {
		b.t.Fatal(err)
	}
}

// onTerminal adds an exec that has a terminal.
func (b *bed) onTerminal(c *Container, id string, args ...string) {
	b.t.Helper()
	spec := bytes.Replace(ociProcess(args...), []byte("{"), []byte(`{"terminal":true,`), 1)
	if err := c.Exec(b.t.Context(), ExecConfig{ID: id, Spec: spec, Streams: Streams{Terminal: true}}); err != nil {
		b.t.Fatal(err)
	}
}

// ociProcess is an OCI process as JSON.
func ociProcess(args ...string) []byte {
	quoted := make([]string, 0, len(args))
	for _, a := range args {
		quoted = append(quoted, strconv.Quote(a))
	}
	return []byte(`{"cwd":"/","user":{"uid":0,"gid":0},"env":["PATH=` + os.Getenv("PATH") + `"],"args":[` + strings.Join(quoted, ",") + `]}`)
}

// wait waits for an exit, in bounded time.
func (b *bed) wait(c *Container, exec string) Exit {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	e, err := c.Wait(ctx, exec)
	if err != nil {
		b.t.Fatalf("wait for %q: %v", exec, err)
	}
	return e
}

func (b *bed) status(c *Container, exec string) Status {
	b.t.Helper()
	s, err := c.State(exec)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Status
}

// remove kills a container and deletes it.
func (b *bed) remove(c *Container) {
	b.t.Helper()
	_ = c.Kill(b.t.Context(), "", 9, true) // it may have ended
	b.wait(c, "")
	b.delete(c, "")
}

func (b *bed) delete(c *Container, exec string) ProcessState {
	b.t.Helper()
	s, err := c.Delete(b.t.Context(), exec)
	if err != nil {
		b.t.Fatalf("delete %q: %v", exec, err)
	}
	return s
}

// private gives a container a PID namespace of its own, by its word only.
func private(t testing.TB, cfg CreateConfig) {
	t.Helper()
	path := filepath.Join(cfg.Bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "{", `{"linux":{"namespaces":[{"type":"pid"}]},`, 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
