// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"slices"
	"strings"
	"testing"

	shimv2 "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"

	"github.com/quoin-io/quoin/config"
)

func TestShimEnvironment(t *testing.T) {
	got, err := shimEnvironment(&Config{
		Deadlines:  map[string]string{"start": "30s", "create": "5m", "drain": "10s"},
		LoggerDirs: []string{"/usr/libexec/loggers/", "/opt/log"},
	})
	want := []string{"QUOIN_DEADLINES=create=5m0s,start=30s", "QUOIN_LOGGER_DIRS=/usr/libexec/loggers:/opt/log"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := shimEnvironment(defaultConfig()); err != nil || len(got) != 0 {
		t.Errorf("by default %q, %v", got, err)
	}
}

// What no shim would understand keeps the daemon from starting, and says where it is.
func TestShimEnvironmentIsRefused(t *testing.T) {
	freshMetrics(t)
	for says, cfg := range map[string]*Config{
		`no deadline "creat"`:      {Deadlines: map[string]string{"creat": "5m"}},
		`create="soon"`:            {Deadlines: map[string]string{"create": "soon"}},
		`"bin" is not an absolute`: {LoggerDirs: []string{"bin"}},
	} {
		r := registered(t)
		cfg.ShimTimeout = "1s"
		ic := plugin.NewContext(t.Context(), plugin.NewPluginSet(), nil)
		ic.Config = cfg
		err := r.Init(ic).Err()
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), `[plugins."io.quoin.runtime.v1.quoin"]`) {
			t.Errorf("%v, want %s", err, says)
		}
	}
	t.Setenv(config.DeadlinesEnv, "create=1")
	if _, err := shimEnvironment(defaultConfig()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "the environment's QUOIN_DEADLINES") {
		t.Errorf("%v", err)
	}
}

func TestWrapShims(t *testing.T) {
	freshMetrics(t)
	set := plugin.NewPluginSet()
	own := registered(t)
	own.Config = &Config{ShimTimeout: "1s", Deadlines: map[string]string{"create": "5m"}, LoggerDirs: []string{"/opt"}}
	start(t, own, set)
	r := &plugin.Registration{
		Type:   "io.containerd.shim.v1",
		ID:     "manager",
		Config: &shimv2.ShimConfig{Env: []string{"QUOIN_LOGGER_DIRS=/mine"}},
		InitFn: func(ic *plugin.InitContext) (any, error) { return ic.Config.(*shimv2.ShimConfig).Env, nil },
	}
	WrapShims(r)
	if !slices.Contains(r.Requires, Type) {
		t.Error("the shim manager could start before the settings are there")
	}
	env, err := start(t, *r, set).Instance()
	if want := []string{"QUOIN_LOGGER_DIRS=/mine", "QUOIN_DEADLINES=create=5m0s"}; err != nil || !slices.Equal(env.([]string), want) {
		t.Errorf("%q, %v", env, err)
	}
}

func TestWrapShimsLeavesAloneWhenDisabled(t *testing.T) {
	r := &plugin.Registration{Type: "io.containerd.shim.v1", ID: "manager", InitFn: func(*plugin.InitContext) (any, error) { return "inner", nil }}
	WrapShims(r)
	if got, err := start(t, *r, plugin.NewPluginSet()).Instance(); err != nil || got != "inner" {
		t.Errorf("%v, %v", got, err)
	}
}
