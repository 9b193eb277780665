// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/protobuf/types"
	"github.com/containerd/errdefs"
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
		found, err := ic.GetByID(Type, ID)
		if errors.Is(err, plugin.ErrPluginNotFound) {
			return instance, nil // disabled
		}
		if err != nil {
			return nil, fmt.Errorf("the node's cgroup driver: %w", err)
		}
		driver, ok := found.(*Driver)
		if !ok {
			return nil, fmt.Errorf("the plugin %s.%s is a %T", Type, ID, found)
		}
		if driver.keeper == nil {
			return instance, nil
		}
		tasks, ok := instance.(runtime.PlatformRuntime)
		if !ok {
			return nil, fmt.Errorf("%s: %T is no platform runtime", r.URI(), instance)
		}
		return keptTasks{tasks, driver.keeper}, nil
	}
}

// keptTasks is a task runtime whose tasks tell the keeper of their updates.
type keptTasks struct {
	runtime.PlatformRuntime
	keeper *keeper
}

// Get returns a task, or an error of class NotFound.
func (r keptTasks) Get(ctx context.Context, id string) (runtime.Task, error) {
	task, err := r.PlatformRuntime.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return keptTask{task, r.keeper}, nil
}

// PluginInfo describes a runtime, if the inner one can: containerd looks for the
// method on the plugin's instance.
func (r keptTasks) PluginInfo(ctx context.Context, request any) (any, error) {
	inner, ok := r.PlatformRuntime.(interface {
		PluginInfo(ctx context.Context, request any) (any, error)
	})
	if !ok {
		return nil, fmt.Errorf("task runtime %q describes no runtimes: %w", r.ID(), errdefs.ErrNotImplemented)
	}
	return inner.PluginInfo(ctx, request)
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
