// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
)

// fakeTasks is a task runtime with one task.
type fakeTasks struct{ runtime.PlatformRuntime }

func (fakeTasks) Get(_ context.Context, id string) (runtime.Task, error) {
	if id != "c" {
		return nil, errdefs.ErrNotFound
	}
	return fakeTask{}, nil
}

func (fakeTasks) PluginInfo(context.Context, any) (any, error) { return "info", nil }

// wrapped starts the task runtime's plugin beside a driver's.
func wrapped(t *testing.T, inner any, driver any, driverErr error) (any, error) {
	t.Helper()
	set := plugin.NewPluginSet()
	if driver != nil || driverErr != nil {
		r := plugin.Registration{Type: Type, ID: ID, InitFn: func(*plugin.InitContext) (any, error) { return driver, driverErr }}
		must(t, set.Add(r.Init(plugin.NewContext(t.Context(), set, nil))))
	}
	r := &plugin.Registration{Type: "io.containerd.runtime.v2", ID: "task", InitFn: func(*plugin.InitContext) (any, error) { return inner, nil }}
	WrapTasks(r)
	if !slices.Contains(r.Requires, Type) {
		t.Error("the task runtime could start before the driver's plugin")
	}
	return r.InitFn(plugin.NewContext(t.Context(), set, nil))
}

func TestWrapTasks(t *testing.T) {
	kept := &Driver{keeper: newKeeper("", t.TempDir())}
	for name, driver := range map[string]any{"disabled": nil, "nothing to keep": &Driver{}} {
		if got, err := wrapped(t, fakeTasks{}, driver, nil); got != (fakeTasks{}) || err != nil {
			t.Errorf("%s: %T, %v", name, got, err)
		}
	}
	if _, err := wrapped(t, fakeTasks{}, nil, errdefs.ErrFailedPrecondition); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a driver that fails: %v", err)
	}
	for _, instance := range []any{"text", struct{ runtime.PlatformRuntime }{}} {
		if _, err := wrapped(t, instance, kept, nil); err == nil || !strings.Contains(err.Error(), "PluginInfo") {
			t.Errorf("%T, which is no task runtime as containerd's: %v", instance, err)
		}
	}

	got, err := wrapped(t, fakeTasks{}, kept, nil)
	must(t, err)
	tasks := got.(keptTasks)
	if task, err := tasks.Get(t.Context(), "c"); err != nil || task.(keptTask).keeper != kept.keeper {
		t.Errorf("%T, %v", task, err)
	}
	if task, err := tasks.Get(t.Context(), "none"); task != nil || !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("%T, %v", task, err)
	}
	if info, err := tasks.PluginInfo(t.Context(), nil); info != "info" || err != nil {
		t.Errorf("%v, %v", info, err)
	}
}
