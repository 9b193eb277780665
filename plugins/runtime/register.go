// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	metrics "github.com/docker/go-metrics"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/cgroup"
)

const (
	// Type is the type of Quoin's own runtime plugin. It is none of
	// containerd's: those that are looked up as the only one of their type
	// must stay alone.
	Type plugin.Type = "io.quoin.runtime.v1"
	// ID is the plugin's name within its type.
	ID = "quoin"
)

// Register adds the plugin that owns the counters. Disabling it (by its URI,
// "io.quoin.runtime.v1.quoin") leaves containerd's task runtime undecorated.
func Register() {
	registry.Register(&plugin.Registration{
		Type: Type,
		ID:   ID,
		InitFn: func(ic *plugin.InitContext) (any, error) {
			ic.Meta.Exports["runtime-type"] = config.RuntimeType
			ic.Meta.Exports["version"] = config.Version
			namespace := metrics.NewNamespace("quoin", "runtime", nil)
			counters := newCounters(namespace)
			metrics.Register(namespace)
			return counters, nil
		},
	})
}

// Decorate makes the registration of containerd's task runtime
// ("io.containerd.runtime.v2.task") yield a decorated one.
func Decorate(r *plugin.Registration) {
	inner := r.InitFn
	r.Requires = append(r.Requires[:len(r.Requires):len(r.Requires)], Type, config.CgroupDriverPluginType)
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		instance, err := inner(ic)
		if err != nil {
			return nil, err
		}
		found, err := ic.GetByID(Type, ID)
		if errors.Is(err, plugin.ErrPluginNotFound) {
			return instance, nil // disabled
		}
		if err != nil {
			return nil, fmt.Errorf("decorating the task runtime: %w", err)
		}
		tasks, ok := instance.(runtime.PlatformRuntime)
		if !ok {
			return nil, fmt.Errorf("decorating the task runtime: %T is no platform runtime", instance)
		}
		return newRuntime(tasks, found.(*counters), nodeOf(ic)), nil
	}
}

// nodeOf asks the plugin that decided on the node's cgroup driver; nil when it is
// disabled.
func nodeOf(ic *plugin.InitContext) *cgroup.Node {
	found, err := ic.GetByID(config.CgroupDriverPluginType, config.CgroupDriverPluginID)
	if err != nil {
		return nil
	}
	decider, ok := found.(interface{ Node() cgroup.Node })
	if !ok {
		return nil
	}
	node := decider.Node()
	return &node
}
