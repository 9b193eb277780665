// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	gometrics "github.com/docker/go-metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/plugins/runtime/metrics"
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

// Config is the section [plugins.'io.quoin.runtime.v1.quoin'].
type Config struct {
	// PerShimMetrics adds metrics of each shim, labelled with its containerd
	// namespace and id, to those of all together. Ids come and go, so they are off
	// by default: each pod that ever ran would be a set of series.
	PerShimMetrics bool `toml:"per_shim_metrics"`
	// ShimTimeout is how long a scrape waits for shims, with 2 ms more for each, as
	// time.ParseDuration reads it. Of one that does not answer, the last answer is served.
	ShimTimeout string `toml:"shim_timeout"`
	// Deadlines of the shims by name (see config.Deadlines), such as create = "5m".
	Deadlines map[string]string `toml:"deadlines"`
	// LoggerDirs are the directories from which shims run binary:// loggers; empty
	// means from anywhere.
	LoggerDirs []string `toml:"logger_dirs"`
}

func defaultConfig() *Config { return &Config{ShimTimeout: "1s"} }

// owner is the plugin's instance, which decorated runtimes use.
type owner struct {
	counters *counters
	shims    *metrics.Collector
	shimEnv  []string // variables for every shim
	obituary *obituary
}

// Register adds the plugin that owns the counters. Disabling it (by its URI,
// "io.quoin.runtime.v1.quoin") leaves containerd's task runtime undecorated.
func Register() {
	registry.Register(&plugin.Registration{
		Type:   Type,
		ID:     ID,
		Config: defaultConfig(),
		InitFn: func(ic *plugin.InitContext) (any, error) {
			ic.Meta.Exports["runtime-type"] = config.RuntimeType
			ic.Meta.Exports["version"] = config.Version
			return newOwner(ic)
		},
	})
}

func newOwner(ic *plugin.InitContext) (*owner, error) {
	cfg := ic.Config.(*Config)
	patience, err := time.ParseDuration(cfg.ShimTimeout)
	if err != nil || patience <= 0 {
		return nil, fmt.Errorf("shim_timeout %q is no positive duration, such as \"1s\": %w", cfg.ShimTimeout, errdefs.ErrInvalidArgument)
	}
	shimEnv, err := shimEnvironment(cfg)
	if err != nil {
		return nil, fmt.Errorf("[plugins.%q]: %w", string(Type)+"."+ID, err)
	}
	// As variables, by which the shims get them too.
	for _, name := range []string{config.DeadlinesEnv, config.LoggerDirsEnv} {
		ic.Meta.Exports[name] = valueOf(shimEnv, name)
	}
	// The plugin's own directory is beside that of the task runtime.
	state := filepath.Dir(ic.Properties[plugins.PropertyStateDir])
	obituary, err := newObituary(ic.Context, state)
	if err != nil {
		return nil, err
	}
	namespace := gometrics.NewNamespace("quoin", "runtime", nil)
	o := &owner{
		shimEnv:  shimEnv,
		obituary: obituary,
		counters: newCounters(namespace),
		shims: metrics.New(metrics.Options{
			State:    state,
			Patience: patience,
			PerShim:  cfg.PerShimMetrics,
		}),
	}
	gometrics.Register(namespace)
	if err := prometheus.Register(o.shims); err != nil {
		return nil, fmt.Errorf("register the metrics of shims: %w", err)
	}
	return o, nil
}

// ownerOf returns the plugin's instance, nil where the user disabled it.
func ownerOf(ic *plugin.InitContext) (*owner, error) {
	found, err := ic.GetByID(Type, ID)
	if errors.Is(err, plugin.ErrPluginNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return found.(*owner), nil
}

// Decorate makes the registration of containerd's task runtime
// ("io.containerd.runtime.v2.task") yield a decorated one.
func Decorate(r *plugin.Registration) {
	inner := r.InitFn
	r.Requires = append(r.Requires[:len(r.Requires):len(r.Requires)], Type, config.CgroupDriverPluginType)
	r.InitFn = func(ic *plugin.InitContext) (any, error) {
		o, err := ownerOf(ic)
		if err != nil {
			return nil, fmt.Errorf("decorating the task runtime: %w", err)
		}
		if o == nil {
			return inner(ic)
		}
		// Before anybody ends a container whose shim is gone.
		o.obituary.HoldAll(ic.Context, o.obituary.tasks)
		wake(ic.Context, filepath.Dir(ic.Properties[plugins.PropertyStateDir]), firstWord, lastWord)
		instance, err := inner(ic)
		if err != nil {
			return nil, err
		}
		tasks, ok := instance.(taskRuntime)
		if !ok {
			return nil, fmt.Errorf("decorating the task runtime: %T is no task runtime that describes runtimes (PluginInfo)", instance)
		}
		if err := o.obituary.loaded(ic.Context, tasks); err != nil {
			return nil, fmt.Errorf("decorating the task runtime: %w", err)
		}
		return newRuntime(tasks, o, nodeOf(ic)), nil
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
