// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoin-io/quoin/config"
)

// start initializes one registration beside those that are in set.
func start(t *testing.T, r plugin.Registration, set *plugin.Set) *plugin.Plugin {
	t.Helper()
	ic := plugin.NewContext(t.Context(), set, nil)
	ic.Config = r.Config
	p := r.Init(ic)
	if err := set.Add(p); err != nil {
		t.Fatal(err)
	}
	return p
}

func taskPlugin(instance any, err error) *plugin.Registration {
	return &plugin.Registration{
		Type:   "io.containerd.runtime.v2",
		ID:     "task",
		InitFn: func(*plugin.InitContext) (any, error) { return instance, err },
	}
}

// registered returns Quoin's plugin, through the registry.
func registered(t *testing.T) plugin.Registration {
	t.Helper()
	registry.Reset()
	t.Cleanup(registry.Reset)
	Register()
	regs := registry.Graph(nil)
	if len(regs) != 1 || regs[0].URI() != "io.quoin.runtime.v1.quoin" {
		t.Fatalf("registered %v", regs)
	}
	return regs[0]
}

// freshMetrics gives the test a registry of metrics of its own.
func freshMetrics(t *testing.T) {
	t.Helper()
	registerer, gatherer := prometheus.DefaultRegisterer, prometheus.DefaultGatherer
	t.Cleanup(func() { prometheus.DefaultRegisterer, prometheus.DefaultGatherer = registerer, gatherer })
	own := prometheus.NewRegistry()
	prometheus.DefaultRegisterer, prometheus.DefaultGatherer = own, own
}

func TestDecorate(t *testing.T) {
	freshMetrics(t)
	set := plugin.NewPluginSet()
	own := start(t, registered(t), set)
	if own.Meta.Exports["runtime-type"] != config.RuntimeType {
		t.Errorf("exports %v", own.Meta.Exports)
	}
	inner := &fakeTasks{}
	r := taskPlugin(inner, nil)
	Decorate(r)
	if !slices.Contains(r.Requires, Type) {
		t.Error("the task plugin could start before the counters are there")
	}
	instance, err := start(t, *r, set).Instance()
	if err != nil {
		t.Fatal(err)
	}
	decorated, ok := instance.(*Runtime)
	if !ok || decorated.taskRuntime != inner {
		t.Errorf("instance %T, want the decorated task runtime", instance)
	}
}

func TestBadShimTimeout(t *testing.T) {
	freshMetrics(t)
	for _, text := range []string{"", "1", "-1s", "0s"} {
		r := registered(t)
		ic := plugin.NewContext(t.Context(), plugin.NewPluginSet(), nil)
		ic.Config = &Config{ShimTimeout: text}
		if err := r.Init(ic).Err(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "shim_timeout") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDecorateLeavesAloneWhenDisabled(t *testing.T) {
	inner := &fakeTasks{}
	r := taskPlugin(inner, nil)
	Decorate(r)
	instance, err := start(t, *r, plugin.NewPluginSet()).Instance()
	if err != nil || instance != inner {
		t.Errorf("instance %T, error %v; want the inner runtime", instance, err)
	}
}

func TestDecorateErrors(t *testing.T) {
	freshMetrics(t)
	set := plugin.NewPluginSet()
	start(t, registered(t), set)
	inner := errors.New("inner")
	r := taskPlugin(nil, inner)
	Decorate(r)
	if _, err := start(t, *r, set).Instance(); !errors.Is(err, inner) {
		t.Errorf("error %v, want the inner plugin's", err)
	}

	for _, instance := range []any{"text", struct{ runtime.PlatformRuntime }{}} {
		freshMetrics(t)
		set = plugin.NewPluginSet()
		start(t, registered(t), set)
		r = taskPlugin(instance, nil)
		Decorate(r)
		if _, err := start(t, *r, set).Instance(); err == nil || !strings.Contains(err.Error(), "PluginInfo") {
			t.Errorf("%T, which is no task runtime as containerd's: %v", instance, err)
		}
	}
}
