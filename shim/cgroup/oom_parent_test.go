// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// pretended is a cgroup2 directory that a test counts kills in.
type pretended struct {
	dir   string
	kills int
}

func pretend(t *testing.T, dir string) *pretended {
	t.Helper()
	p := &pretended{dir: dir}
	must(t, os.MkdirAll(dir, 0o755))
	p.kill(t, 0)
	return p
}

// kill counts as the kernel does.
func (p *pretended) kill(t *testing.T, n int) {
	t.Helper()
	p.kills += n
	must(t, os.WriteFile(filepath.Join(p.dir, "memory.events"), fmt.Appendf(nil, "oom 0\noom_kill %d\n", p.kills), 0o600))
}

// counterSource reads a pretended cgroup; epoll takes no plain file, so its
// descriptor is one that never becomes ready.
type counterSource struct {
	oomSource
	of   *pretended
	gone bool
}

func (s *counterSource) kills() (uint64, oomState) {
	if s.gone {
		return 0, oomGone
	}
	return uint64(s.of.kills), oomSettled
}

// podBed is a pod with containers, all pretended.
type podBed struct {
	*OOMWatcher
	recorder
	pod        *pretended
	containers map[string]*counterSource
}

func newPod(t *testing.T, ids ...string) *podBed {
	t.Helper()
	w, r := watch(t)
	b := &podBed{OOMWatcher: w, recorder: r, pod: pretend(t, t.TempDir()), containers: map[string]*counterSource{}}
	for _, id := range ids {
		b.run(t, id)
	}
	return b
}

func (b *podBed) run(t *testing.T, id string) {
	t.Helper()
	efd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, err)
	s := &counterSource{oomSource: &oomControl{eventfd: efd}, of: pretend(t, filepath.Join(b.pod.dir, id+".scope"))}
	b.containers[id] = s
	must(t, b.add(id, s, b.pod.dir))
}

// kill is an OOM kill in a container: as the kernel counts, here and above.
func (b *podBed) kill(t *testing.T, id string, n int) {
	t.Helper()
	b.containers[id].of.kill(t, n)
	b.pod.kill(t, n)
}

// killAndRead is a kill that is told of while the container is there.
func (b *podBed) killAndRead(t *testing.T, id string, n int) {
	t.Helper()
	b.kill(t, id, n)
	if !b.Check(id) {
		t.Error("the kill was not read")
	}
	b.expect(t, id)
}

func (b *podBed) ended(t *testing.T, id string, want bool) {
	t.Helper()
	if got := b.Ended(id); got != want {
		t.Errorf("Ended(%s) = %t, want %t", id, got, want)
	}
	if want {
		b.expect(t, id)
	}
	b.silent(t)
}

// The cgroup is gone before it could be read: the pod's tells.
func TestOOMInAGoneCgroup(t *testing.T) {
	b := newPod(t, "a", "b")
	b.kill(t, "a", 1)
	b.containers["a"].gone = true
	b.ended(t, "a", true)
	b.ended(t, "a", false) // once
	// The one that lives had none.
	b.containers["b"].gone = true
	b.ended(t, "b", false)
}

// Kills that were read are not held against a cgroup that goes later.
func TestOOMReadIsNotClaimed(t *testing.T) {
	b := newPod(t, "a", "b")
	b.killAndRead(t, "a", 2)
	for _, id := range []string{"a", "b"} {
		b.containers[id].gone = true
		b.ended(t, id, false)
	}
}

// A kill in a neighbour that lives is the neighbour's, though nobody had read it.
func TestOOMOfANeighbour(t *testing.T) {
	b := newPod(t, "a", "b")
	b.kill(t, "b", 1)
	b.containers["a"].gone = true
	if b.Ended("a") {
		t.Error("a neighbour's kill was claimed")
	}
	b.expect(t, "b") // found on the way
	b.silent(t)
}

// Two that go at once: each is told of, however many processes each had.
func TestOOMInTwoGoneCgroups(t *testing.T) {
	b := newPod(t, "a", "b", "c")
	b.kill(t, "a", 5)
	b.kill(t, "b", 1)
	b.containers["a"].gone, b.containers["b"].gone = true, true
	b.ended(t, "a", true)
	b.ended(t, "b", true)
	b.Remove("a")
	b.Remove("b")
	b.run(t, "late")
	for _, id := range []string{"c", "late"} {
		b.containers[id].gone = true
		b.ended(t, id, false)
	}
}

// A neighbour's kill is not added to one that was read in time.
func TestOOMReadAndGone(t *testing.T) {
	b := newPod(t, "a", "b")
	b.killAndRead(t, "a", 1)
	b.kill(t, "b", 1)
	b.containers["a"].gone, b.containers["b"].gone = true, true
	b.ended(t, "a", false)
	b.ended(t, "b", true)
}

func TestOOMParentGoes(t *testing.T) {
	b := newPod(t, "a")
	b.containers["a"].gone = true
	must(t, os.RemoveAll(b.pod.dir))
	b.ended(t, "a", false)
	b.Remove("a")
	if len(b.parents) != 0 {
		t.Errorf("%d parents are remembered", len(b.parents))
	}
	b.ended(t, "a", false)
}

func TestParentOf(t *testing.T) {
	root := t.TempDir()
	slice := filepath.Join(root, "pod.slice")
	pretend(t, slice)
	pretend(t, filepath.Join(slice, "a.scope"))
	for dir, want := range map[string]string{
		"pod.slice/a.scope":           slice,
		"pod.slice/a.scope/container": slice,
		"pod.slice":                   "", // above is the root, which has no such file
	} {
		if got := parentOf(&Cgroup{mode: Unified, unified: filepath.Join(root, dir)}); got != want {
			t.Errorf("above %s: %q, want %q", dir, got, want)
		}
	}
	if got := parentOf(&Cgroup{mode: Legacy, unified: filepath.Join(slice, "a.scope")}); got != "" {
		t.Errorf("v1: %q", got)
	}
}
