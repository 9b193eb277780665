// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"sync"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/plugins/runtime/metrics"
	"github.com/quoin-io/quoin/shim/cgroup"
)

// unknownType stands for the runtime type of tasks that were there before the
// daemon was.
const unknownType = "unknown"

// taskRuntime is all that containerd calls on its task runtime: introspection, and
// CRI through it, looks for PluginInfo on the plugin's instance.
type taskRuntime interface {
	runtime.PlatformRuntime
	PluginInfo(ctx context.Context, request any) (any, error)
}

// Runtime is containerd's task runtime, decorated. Everything it answers is
// what the inner one answers, if that comes in time.
type Runtime struct {
	taskRuntime
	counters *counters
	shims    *metrics.Collector
	obituary *obituary
	node     *cgroup.Node // nil when nobody decided on a driver
	// types remembers the runtime type of each task, since a deletion does
	// not say it: taskKey to string.
	types sync.Map
}

type taskKey struct{ namespace, id string }

func newRuntime(inner taskRuntime, o *owner, node *cgroup.Node) *Runtime {
	return &Runtime{taskRuntime: inner, counters: o.counters, shims: o.shims, obituary: o.obituary, node: node}
}

// Create creates a task through the runtime that opts names.
func (r *Runtime) Create(ctx context.Context, id string, opts runtime.CreateOpts) (runtime.Task, error) {
	task, err := r.taskRuntime.Create(ctx, id, opts)
	if r.node != nil {
		if d := mismatch(opts.Spec, *r.node); d != nil {
			r.counters.shapes.WithValues(string(d.Shape), string(d.Used)).Inc()
		}
	}
	label := typeLabel(opts.Runtime)
	r.counters.creates.WithValues(label, outcome(err)).Inc()
	if err == nil {
		r.types.Store(keyOf(ctx, id), label)
		r.obituary.made(ctx, keyOf(ctx, id))
	}
	return task, err
}

// Get returns a task, or an error of class NotFound.
func (r *Runtime) Get(ctx context.Context, id string) (runtime.Task, error) {
	task, err := r.taskRuntime.Get(ctx, id)
	if errdefs.IsNotFound(err) {
		// Its shim died: containerd dropped it without a call of Delete.
		r.types.Delete(keyOf(ctx, id))
	}
	return task, err
}

// Tasks lists the tasks of the context's namespace, or of all. Asking them for
// states or statistics is bounded, however many shims are stopped or hang.
func (r *Runtime) Tasks(ctx context.Context, all bool) ([]runtime.Task, error) {
	tasks, err := r.taskRuntime.Tasks(ctx, all)
	if err != nil {
		return nil, err
	}
	return list(tasks, answerWithin), nil
}

// Delete deletes a task and returns how it exited.
func (r *Runtime) Delete(ctx context.Context, id string) (*runtime.Exit, error) {
	key := keyOf(ctx, id)
	label := unknownType
	if known, ok := r.types.Load(key); ok {
		label = known.(string)
	}
	if label != runcType {
		defer r.shims.Deleting(ctx, key.namespace, id)()
	}
	exit, err := r.taskRuntime.Delete(ctx, id)
	r.counters.deletes.WithValues(label, outcome(err)).Inc()
	if err == nil || errdefs.IsNotFound(err) {
		r.types.Delete(key)
		r.obituary.gone(key)
	}
	return exit, err
}

func keyOf(ctx context.Context, id string) taskKey {
	namespace, _ := namespaces.Namespace(ctx) // without one the inner runtime refuses
	return taskKey{namespace, id}
}
