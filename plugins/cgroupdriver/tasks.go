// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/protobuf/types"
	"github.com/containerd/plugin"
)

// WrapTasks has the keeper of what systemd forgets learn of updates. r is the
// registration of io.containerd.runtime.v2.task, before it is registered. Where
// there is no keeper, the task runtime is left as it is.
func WrapTasks(r *plugin.Registration) {
	r.Requires = append(slices.Clone(r.Requires), Type)
	start := r.InitFn
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		instance, err := start(ic)
		if err != nil {
			return nil, err
		}
		driver, err := find(ic)
		if err != nil {
			return nil, err
		}
		if driver == nil || driver.keeper == nil {
			return instance, nil
		}
		tasks, ok := instance.(taskRuntime)
		if !ok {
			return nil, fmt.Errorf("%s: %T is no task runtime that describes runtimes (PluginInfo)", r.URI(), instance)
		}
		return keptTasks{tasks, driver.keeper}, nil
	}
}

// taskRuntime is all that containerd calls on its task runtime: introspection, and
// CRI through it, looks for PluginInfo on the plugin's instance.
type taskRuntime interface {
	runtime.PlatformRuntime
	PluginInfo(ctx context.Context, request any) (any, error)
}

// keptTasks is a task runtime whose tasks tell the keeper of their updates.
type keptTasks struct {
	taskRuntime
	keeper *keeper
}

// Get returns a task, or an error of class NotFound.
func (r keptTasks) Get(ctx context.Context, id string) (runtime.Task, error) {
	task, err := r.taskRuntime.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return keptTask{task, r.keeper}, nil
}

type keptTask struct {
	runtime.Task
	keeper *keeper
}

// Update sets the resources of a running task.
func (t keptTask) Update(ctx context.Context, value *types.Any, annotations map[string]string) error {
	done := t.keeper.update(t.Namespace(), t.ID())
	err := t.Task.Update(ctx, value, annotations)
	if err != nil {
		done(ctx, nil)
		return err
	}
	var r resources
	if json.Unmarshal(value.GetValue(), &r) != nil {
		r = resources{} // the runtime knew better; it is none of ours
	}
	done(ctx, &r)
	return nil
}
