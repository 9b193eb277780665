// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/protobuf/types"
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

func scopeDir(name string) string { return "sys/fs/cgroup/system.slice/cri-" + name + ".scope" }

func TestKeeperPass(t *testing.T) {
	root := host(t, nil)
	tasks := t.TempDir()
	put(t, root, map[string]string{
		scopeDir("lost") + "/memory.oom.group": "0\n", scopeDir("lost") + "/memory.swap.max": "max\n",
		scopeDir("there") + "/memory.oom.group": "1\n", scopeDir("there") + "/memory.swap.max": "4096\n", // by the runtime's own command
		scopeDir("plain") + "/memory.oom.group": "0\n", scopeDir("plain") + "/memory.swap.max": "max\n",
		"sys/fs/cgroup/foo/memory.oom.group": "0\n", "sys/fs/cgroup/foo/memory.swap.max": "max\n",
		scopeDir("crun") + "/memory.oom.group": "0\n", scopeDir("crun") + "/memory.swap.max": "max\n",
		scopeDir("crun") + "/container/memory.oom.group": "1\n", scopeDir("crun") + "/container/memory.swap.max": "0\n",
	})
	put(t, tasks, map[string]string{
		"k8s.io/lost/config.json":   strings.ReplaceAll(grouped, "NAME", "lost"),
		"k8s.io/crun/config.json":   strings.ReplaceAll(grouped, "NAME", "crun"),
		"k8s.io/there/config.json":  strings.ReplaceAll(grouped, "NAME", "there"),
		"k8s.io/ended/config.json":  strings.ReplaceAll(grouped, "NAME", "ended"),
		"k8s.io/plain/config.json":  `{"linux":{"cgroupsPath":"system.slice:cri:plain","resources":{"memory":{"limit":64}}}}`,
		"other/path/config.json":    strings.ReplaceAll(grouped, "system.slice:cri:NAME", "/foo"),
		"other/broken/config.json":  `{`,
		"other/nothing/config.json": `{}`,
	})
	restored, err := newKeeper(root, tasks).pass()
	if err == nil || !strings.Contains(err.Error(), "container broken") {
		t.Errorf("what cannot be read is told as %v", err)
	}
	slices.Sort(restored)
	if diff := cmp.Diff([]string{"cri-lost.scope/memory.oom.group", "cri-lost.scope/memory.swap.max"}, restored); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]string{
		scopeDir("lost") + "/memory.oom.group": "1", scopeDir("lost") + "/memory.swap.max": "0",
		scopeDir("there") + "/memory.oom.group": "1", scopeDir("there") + "/memory.swap.max": "4096",
		scopeDir("plain") + "/memory.oom.group": "0", scopeDir("plain") + "/memory.swap.max": "max",
		scopeDir("crun") + "/memory.oom.group": "0", scopeDir("crun") + "/memory.swap.max": "max",
		"sys/fs/cgroup/foo/memory.oom.group": "0", "sys/fs/cgroup/foo/memory.swap.max": "max",
	} {
		if got := read(t, filepath.Join(root, path)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// fakeTask is a task whose update writes files, as a runtime does.
type fakeTask struct {
	runtime.Task
	update func() error
}

func (fakeTask) Namespace() string { return "k8s.io" }
func (fakeTask) ID() string        { return "c" }

func (f fakeTask) Update(context.Context, *types.Any, map[string]string) error { return f.update() }

// TestKeeperUpdate: what is put back after a reload is what the last update
// left, also for a daemon that started since.
func TestKeeperUpdate(t *testing.T) {
	const (
		zero = `"memory":{"limit":64,"swap":64}`
		both = zero + `,"unified":{"memory.oom.group":"1"}`
	)
	for name, tc := range map[string]struct {
		created string
		updates []string
		// written are the group and the swap that the last update writes, left what
		// systemd makes of them, want what has to be there in the end.
		written, left, want [2]string
		err                 error
	}{
		"both taken back":        {both, []string{`"memory":{"limit":64,"swap":-1},"unified":{"memory.oom.group":"0"}`}, [2]string{"0", "max"}, [2]string{"0", "max"}, [2]string{"0", "max"}, nil},
		"both set":               {``, []string{both}, [2]string{"1", "0"}, [2]string{"0", "max"}, [2]string{"1", "0"}, nil},
		"less swap than known":   {`"memory":{"limit":64,"swap":96}`, []string{zero}, [2]string{"0", "0"}, [2]string{"0", "32"}, [2]string{"0", "0"}, nil},
		"swap by its own key":    {zero, []string{`"unified":{"memory.swap.max":"32"}`}, [2]string{"0", "32"}, [2]string{"0", "max"}, [2]string{"0", "32"}, nil},
		"swap follows memory":    {zero, []string{`"memory":{"limit":32}`}, [2]string{"0", "32"}, [2]string{"0", "32"}, [2]string{"0", "32"}, nil},
		"something else":         {both, []string{`"pids":{"limit":7}`}, [2]string{"1", "0"}, [2]string{"0", "max"}, [2]string{"1", "0"}, nil},
		"twice":                  {``, []string{both, `"unified":{"memory.oom.group":"0"}`}, [2]string{"0", "0"}, [2]string{"0", "max"}, [2]string{"0", "0"}, nil},
		"failed":                 {both, []string{`"unified":{"memory.oom.group":"0"}`}, [2]string{"1", "0"}, [2]string{"0", "max"}, [2]string{"1", "0"}, errors.New("no")},
		"a reload in the middle": {``, []string{both}, [2]string{"0", "max"}, [2]string{"0", "max"}, [2]string{"1", "0"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			root, tasks := host(t, nil), t.TempDir()
			files := func(values [2]string) {
				put(t, root, map[string]string{scopeDir("c") + "/memory.oom.group": values[0] + "\n", scopeDir("c") + "/memory.swap.max": values[1] + "\n"})
			}
			put(t, tasks, map[string]string{"k8s.io/c/config.json": `{"linux":{"cgroupsPath":"system.slice:cri:c","resources":{` + tc.created + `}}}`})
			k := newKeeper(root, tasks)
			for _, update := range tc.updates {
				task := keptTask{fakeTask{update: func() error { files(tc.written); return tc.err }}, k}
				err := task.Update(t.Context(), &types.Any{Value: []byte("{" + update + "}")}, nil)
				if !errors.Is(err, tc.err) {
					t.Fatalf("update: %v, want %v", err, tc.err)
				}
			}
			for when, k := range map[string]*keeper{"this daemon": k, "the next": newKeeper(root, tasks)} {
				files(tc.left)
				if _, err := k.pass(); err != nil {
					t.Fatal(err)
				}
				got := [2]string{read(t, filepath.Join(root, scopeDir("c"), "memory.oom.group")), read(t, filepath.Join(root, scopeDir("c"), "memory.swap.max"))}
				if got != tc.want {
					t.Errorf("%s: the files hold %q, want %q", when, got, tc.want)
				}
			}
		})
	}
}

// TestKeeperWhileUpdating: a pass in the middle of an update writes nothing; what
// it would have found lost is put back when the update has ended.
func TestKeeperWhileUpdating(t *testing.T) {
	root, tasks := host(t, nil), t.TempDir()
	put(t, tasks, map[string]string{"k8s.io/c/config.json": strings.ReplaceAll(grouped, "NAME", "c")})
	k := newKeeper(root, tasks)
	update := func() error {
		put(t, root, map[string]string{scopeDir("c") + "/memory.oom.group": "0\n", scopeDir("c") + "/memory.swap.max": "max\n"})
		restored, err := k.pass()
		if len(restored) > 0 || err != nil {
			t.Errorf("put back %q, %v", restored, err)
		}
		return nil
	}
	// The group is taken back by the update; the swap was systemd's doing.
	if err := (keptTask{fakeTask{update: update}, k}).Update(t.Context(), &types.Any{Value: []byte(`{"unified":{"memory.oom.group":"0"}}`)}, nil); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"memory.oom.group": "0", "memory.swap.max": "0"} {
		if got := read(t, filepath.Join(root, scopeDir("c"), file)); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if len(k.updating) > 0 {
		t.Errorf("updates that never end: %v", k.updating)
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
