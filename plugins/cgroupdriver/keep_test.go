// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// put makes files below a directory.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return strings.TrimSpace(string(text))
}

const grouped = `{"linux":{"cgroupsPath":"system.slice:cri:NAME","resources":{"memory":{"limit":64,"swap":64},"unified":{"memory.oom.group":"1"}}}}`

func TestKeeperPass(t *testing.T) {
	root := host(t, nil)
	tasks := t.TempDir()
	scope := func(name string) string { return "sys/fs/cgroup/system.slice/cri-" + name + ".scope" }
	put(t, root, map[string]string{
		scope("lost") + "/memory.oom.group": "0\n", scope("lost") + "/memory.swap.max": "max\n",
		scope("there") + "/memory.oom.group": "1\n", scope("there") + "/memory.swap.max": "4096\n", // updated since
		scope("plain") + "/memory.oom.group": "0\n", scope("plain") + "/memory.swap.max": "max\n",
		"sys/fs/cgroup/foo/memory.oom.group": "0\n", "sys/fs/cgroup/foo/memory.swap.max": "max\n",
	})
	put(t, tasks, map[string]string{
		"k8s.io/lost/config.json":   strings.ReplaceAll(grouped, "NAME", "lost"),
		"k8s.io/there/config.json":  strings.ReplaceAll(grouped, "NAME", "there"),
		"k8s.io/ended/config.json":  strings.ReplaceAll(grouped, "NAME", "ended"),
		"k8s.io/plain/config.json":  `{"linux":{"cgroupsPath":"system.slice:cri:plain","resources":{"memory":{"limit":64}}}}`,
		"other/path/config.json":    strings.ReplaceAll(grouped, "system.slice:cri:NAME", "/foo"),
		"other/broken/config.json":  `{`,
		"other/nothing/config.json": `{}`,
	})
	restored, err := keeper{root, tasks}.pass()
	if err == nil || !strings.Contains(err.Error(), "container broken") {
		t.Errorf("what cannot be read is told as %v", err)
	}
	if diff := cmp.Diff([]string{"cri-lost.scope/memory.oom.group", "cri-lost.scope/memory.swap.max"}, restored); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]string{
		scope("lost") + "/memory.oom.group": "1", scope("lost") + "/memory.swap.max": "0",
		scope("there") + "/memory.oom.group": "1", scope("there") + "/memory.swap.max": "4096",
		scope("plain") + "/memory.oom.group": "0", scope("plain") + "/memory.swap.max": "max",
		"sys/fs/cgroup/foo/memory.oom.group": "0", "sys/fs/cgroup/foo/memory.swap.max": "max",
	} {
		if got := read(t, filepath.Join(root, path)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// TestFollowReloads: once at the beginning, once at the end of each reload, and
// no more when the context has ended.
func TestFollowReloads(t *testing.T) {
	bus(t, func(*dbus.Message) *dbus.Message { return result() })
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan struct{}, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		followReloads(ctx, func(context.Context) { calls <- struct{}{} })
	}()
	for range 2 {
		select {
		case <-calls:
		case <-time.After(10 * time.Second):
			t.Fatal("not told of the reload")
		}
	}
	cancel()
	<-done
	if len(calls) > 0 {
		t.Errorf("%d calls more than reloads", len(calls))
	}
}
