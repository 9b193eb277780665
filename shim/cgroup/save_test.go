// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/containerd/errdefs"
)

func TestCgroupAsJSON(t *testing.T) {
	for _, c := range []*Cgroup{
		{mode: Unified, unified: "/sys/fs/cgroup/a"},
		{mode: Unified, unified: "/sys/fs/cgroup", top: true},
		{mode: Legacy, legacy: []legacyDir{{"memory", "/sys/fs/cgroup/memory/a", false}, {"pids", "/sys/fs/cgroup/pids", true}}},
		{mode: Hybrid, unified: "/sys/fs/cgroup/unified/a", legacy: []legacyDir{{"cpu", "/sys/fs/cgroup/cpu/a", false}}},
	} {
		data, err := json.Marshal(c)
		must(t, err)
		var got *Cgroup
		must(t, json.Unmarshal(data, &got))
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%+v became %s and %+v", c, data, got)
		}
	}
	for _, bad := range []string{`1`, `{}`, `{"mode":"unified"}`, `{"mode":"odd","unified":"/a"}`, `{"mode":"unified","unified":"a"}`,
		`{"mode":"legacy","legacy":[{"controller":"cpu","dir":"a"}]}`} {
		if err := new(Cgroup).UnmarshalJSON([]byte(bad)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// another watches what b watches from where b was, as the next image of a shim does.
func (b *podBed) another(t *testing.T) *podBed {
	t.Helper()
	w, r := watch(t)
	next := &podBed{OOMWatcher: w, recorder: r, pod: b.pod, containers: b.containers}
	for id, source := range b.containers {
		s, ok := b.State(id)
		if !ok {
			t.Fatalf("%s is not watched", id)
		}
		watched := &oomWatch{id: id, source: source, kills: s.Kills, told: s.Told, base: s.Base}
		must(t, next.resume(watched, s))
		watched.look(next.onKill)
	}
	return next
}

// TestOOMAcrossWatchers: a kill that nobody watched is told of by the next watcher,
// and one that was told of is not told again.
func TestOOMAcrossWatchers(t *testing.T) {
	b := newPod(t, "a", "b")
	b.killAndRead(t, "a", 1)
	b.kill(t, "b", 1)
	next := b.another(t)
	next.expect(t, "b")
	next.silent(t)
	for _, id := range []string{"a", "b"} {
		next.containers[id].gone = true
		next.ended(t, id, false) // both have been told of
	}
}

// TestOOMOfAGoneCgroupAcrossWatchers: the cgroup went while nobody watched; the
// one above knows.
func TestOOMOfAGoneCgroupAcrossWatchers(t *testing.T) {
	b := newPod(t, "a", "b")
	b.kill(t, "a", 1)
	b.containers["a"].gone = true
	next := b.another(t)
	next.silent(t)
	next.ended(t, "a", true)
	next.containers["b"].gone = true
	next.ended(t, "b", false)
}

func TestResumeWithoutCgroup(t *testing.T) {
	w, _ := watch(t)
	if err := w.Resume("a", nil, OOMState{}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, ok := w.State("a"); ok {
		t.Error("it is watched")
	}
	pod := pretend(t, t.TempDir())
	must(t, w.Resume("a", nil, OOMState{Parent: pod.dir}))
	if err := w.Resume("a", nil, OOMState{Parent: pod.dir}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("twice: %v", err)
	}
	w.Remove("a")
	if len(w.parents) != 0 {
		t.Errorf("%d parents are remembered", len(w.parents))
	}
}
