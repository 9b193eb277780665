// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	shimv2 "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/containerd/v2/plugins"
	_ "github.com/containerd/containerd/v2/plugins/cri/runtime" // the plugin that WrapCRI wraps
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/quoin-io/quoin/shim/cgroup"
)

// load starts the plugin like containerd does, and counts refusals to start.
func load(t *testing.T, p prober, config *Config, state string) (*Driver, *plugin.InitContext, int, error) {
	t.Helper()
	refusals := 0
	ic := plugin.NewContext(t.Context(), plugin.NewPluginSet(), map[string]string{plugins.PropertyStateDir: state})
	ic.Config = config
	ic.RegisterReadiness = func() func() { refusals++; return func() {} }
	v, err := registration(p).InitFn(ic)
	d, _ := v.(*Driver)
	return d, ic, refusals, err
}

func TestPlugin(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	root := host(t, nil)
	d, ic, _, err := load(t, prober{root, answers("quoind.service", nil)}, &Config{Driver: Auto}, state)
	must(t, err)
	if d.Decision().Driver != cgroup.Systemd {
		t.Errorf("%+v", d.Decision())
	}
	if n := d.Node(); n.Driver != cgroup.Systemd || !n.Systemd {
		t.Errorf("%+v", n)
	}
	for key, want := range map[string]string{"driver": "systemd", "setting": "auto", "mode": "unified", "unit": "quoind.service"} {
		if got := ic.Meta.Exports[key]; got != want {
			t.Errorf("exports %s = %q, want %q", key, got, want)
		}
	}
	// A restart in the same boot keeps it, another boot does not.
	deaf := prober{root, answers("", errors.New("bus is down"))}
	if d, _, _, err = load(t, deaf, &Config{Driver: Auto}, state); err != nil || d.Decision().Driver != cgroup.Systemd {
		t.Errorf("%+v, %v", d, err)
	}
	deaf.root = host(t, map[string]string{"proc/sys/kernel/random/boot_id": "boot-2\n"})
	if d, _, _, err = load(t, deaf, &Config{Driver: Auto}, state); err != nil || d.Decision().Driver != cgroup.Cgroupfs {
		t.Errorf("%+v, %v", d, err)
	}
	// A refusal stops the daemon.
	if _, _, refusals, err := load(t, deaf, &Config{Driver: "systemd"}, state); !errdefs.IsFailedPrecondition(err) || refusals != 1 {
		t.Errorf("%d refusals, %v", refusals, err)
	}
}

func TestPluginOnThisHost(t *testing.T) {
	d, _, _, err := load(t, prober{askUnit: askManager}, &Config{Driver: Auto}, t.TempDir())
	must(t, err)
	if f := cgroup.ProbeInit(""); !f.SystemdRuns() && d.Decision().Driver != cgroup.Cgroupfs && len(d.Decision().Warnings) == 0 {
		t.Errorf("%+v on %+v", d.Decision(), f)
	}
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if d, err := loadRecord(dir, "b1"); d != nil || err != nil {
		t.Errorf("%v, %v", d, err)
	}
	want := Decision{Driver: cgroup.Systemd, Setting: Auto, Reasons: []string{"x", "y"}}
	must(t, saveRecord(dir, "b1", want))
	must(t, saveRecord(dir, "b1", want))
	got, err := loadRecord(dir, "b1")
	must(t, err)
	if d := cmp.Diff(&want, got); d != "" {
		t.Error(d)
	}
	if d, err := loadRecord(dir, "b2"); d != nil || err != nil {
		t.Errorf("of another boot: %v, %v", d, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, recordName), []byte(`{"version":1,"boot_id":"b1","driver":"upstart"}`), 0o600))
	if d, err := loadRecord(dir, "b1"); d != nil || err != nil {
		t.Errorf("an unknown driver: %v, %v", d, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, recordName), []byte(`{"versi`), 0o600))
	if d, err := loadRecord(dir, "b1"); d != nil || err == nil {
		t.Errorf("half a record: %v, %v", d, err)
	}
}

func registered(t *testing.T, uri string) plugin.Registration {
	t.Helper()
	for _, r := range registry.Graph(func(*plugin.Registration) bool { return false }) {
		if r.URI() == uri {
			return r
		}
	}
	t.Fatalf("%s is not registered", uri)
	return plugin.Registration{}
}

// startCRI wraps containerd's own plugin, merges a user's TOML into its
// configuration as the daemon does, starts it, and returns the handlers that it
// then has.
func startCRI(t *testing.T, user string, d Decision) (handlers []handler, refusals int, err error) {
	t.Helper()
	r := registered(t, "io.containerd.cri.v1.runtime")
	WrapCRI(&r)
	set := plugin.NewPluginSet()
	ic := plugin.NewContext(t.Context(), set, map[string]string{plugins.PropertyStateDir: t.TempDir()})
	warn := plugin.Registration{Type: plugins.WarningPlugin, ID: "w", InitFn: func(*plugin.InitContext) (any, error) { return quiet{}, nil }}
	ours := plugin.Registration{Type: Type, ID: ID, InitFn: func(*plugin.InitContext) (any, error) { return &Driver{decision: d}, nil }}
	for _, p := range []plugin.Registration{warn, ours} {
		must(t, set.Add(p.Init(plugin.NewContext(t.Context(), set, nil))))
	}
	ic.Properties[plugins.PropertyRootDir] = t.TempDir()
	ic.Properties[plugins.PropertyStateDir] = filepath.Join(t.TempDir(), "cri")
	ic.RegisterReadiness = func() func() { refusals++; return func() {} }
	// The registered defaults are one object; each start gets its own copy.
	ic.Config = copyOf(t, r.Config)
	must(t, toml.Unmarshal([]byte(user), ic.Config))
	if _, err := r.InitFn(ic); err != nil {
		return nil, refusals, err
	}
	v, err := viewOf(ic.Config)
	must(t, err)
	if got := answerOf(v.handlers(), v.defaultName(), d.SystemdDir); got != d.Driver {
		t.Errorf("CRI would answer %s, want %s: %+v", got, d.Driver, v.handlers())
	}
	return v.handlers(), refusals, nil
}

type quiet struct{}

func (quiet) Emit(context.Context, any) {}
func (quiet) Warnings() []any           { return nil }

// copyOf copies a configuration of a type that cannot be named here.
func copyOf(t *testing.T, config any) any {
	t.Helper()
	data, err := toml.Marshal(config)
	must(t, err)
	out := reflect.New(reflect.TypeOf(config).Elem()).Interface()
	must(t, toml.Unmarshal(data, out))
	return out
}

func TestWrapCRI(t *testing.T) {
	const table = "default_runtime_name = 'quoin'\n[containerd]\ndefault_runtime_name = 'quoin'\n[containerd.runtimes.quoin]\nruntime_type = 'io.containerd.quoin.v1'\n"
	systemd := Decision{Driver: cgroup.Systemd, SystemdDir: true, Reasons: []string{"test"}}
	cgroupfs := Decision{Driver: cgroup.Cgroupfs, Reasons: []string{"test"}}
	chosen := Decision{Driver: cgroup.Cgroupfs, SystemdDir: true, Reasons: []string{"test"}}
	// The configuration is of one mind, and running pods are in its way.
	held := Decision{Driver: cgroup.Systemd, Wanted: cgroup.Cgroupfs, SystemdDir: true, Reasons: []string{"test"}}
	const retyped = "[containerd.runtimes.runc]\nruntime_type = 'io.containerd.quoin.v1'\n"
	for name, tc := range map[string]struct {
		user    string
		d       Decision
		refused string
	}{
		"defaults, systemd":             {"", systemd, ""},
		"defaults, cgroupfs":            {"", cgroupfs, ""},
		"defaults, cgroupfs on systemd": {"", chosen, ""},
		"quoin, systemd":                {table, systemd, ""},
		"quoin, cgroupfs on systemd":    {table, chosen, ""},
		// No handler of runc's type is left: one has to be added.
		"runc is quoin, cgroupfs on systemd": {retyped, chosen, ""},
		"runc is quoin, systemd":             {retyped, systemd, ""},
		"user agrees":                        {"[containerd.runtimes.runc.options]\nSystemdCgroup = true\n", systemd, ""},
		"user contradicts":                   {"[containerd.runtimes.runc.options]\nSystemdCgroup = false\n", systemd, "runtimes.runc.options"},
		"users of two minds": {
			"[containerd.runtimes.runc.options]\nSystemdCgroup = true\n[containerd.runtimes.z]\nruntime_type = 'io.containerd.runc.v2'\n[containerd.runtimes.z.options]\nSystemdCgroup = false\n",
			systemd, "runtimes.z.options",
		},
		"contradiction in quoin's own": {
			"[containerd.runtimes.quoin]\nruntime_type = 'io.containerd.quoin.v1'\n[containerd.runtimes.quoin.options]\nSystemdCgroup = true\n",
			cgroupfs, "runtimes.quoin.options",
		},
		"user agrees with what pods are in the way of": {"[containerd.runtimes.runc.options]\nSystemdCgroup = false\n", held, ""},
		"user contradicts what pods are in the way of": {"[containerd.runtimes.runc.options]\nSystemdCgroup = true\n", held, "driver is cgroupfs"},
		"no boolean":             {"[containerd.runtimes.runc.options]\nSystemdCgroup = 'yes'\n", systemd, "true or false"},
		"another runtime's word": {"[containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\n[containerd.runtimes.kata.options]\nSystemdCgroup = false\n", systemd, ""},
		"drop-in without options": {
			"[containerd]\ndefault_runtime_name = 'a'\n[containerd.runtimes.a]\nruntime_type = 'io.containerd.runc.v2'\nruntime_path = '/usr/bin/containerd-shim-quoin-v1'\n", systemd, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			handlers, refusals, err := startCRI(t, tc.user, tc.d)
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) || refusals != 1 {
					t.Errorf("%d refusals, %v; want one that says %q", refusals, err, tc.refused)
				}
				return
			}
			must(t, err)
			if refusals != 0 {
				t.Error("refused")
			}
			for _, h := range handlers {
				if set, ok := h.options[optionKey].(bool); h.typ == plugins.RuntimeRuncV2 && (!ok || set != (tc.d.Driver == cgroup.Systemd)) {
					t.Errorf("%+v", h)
				}
			}
		})
	}
}

// What the user has not written must not look as if he had.
func TestWrapCRIForgetsTheDefault(t *testing.T) {
	r := registered(t, "io.containerd.cri.v1.runtime")
	WrapCRI(&r)
	v, err := viewOf(r.Config)
	must(t, err)
	for _, h := range v.handlers() {
		if _, ok := h.options[optionKey]; ok || h.options == nil {
			t.Errorf("default handler %+v", h)
		}
	}
	found := false
	for _, typ := range r.Requires {
		found = found || typ == Type
	}
	if !found {
		t.Errorf("requires %v, not %s: it might start first", r.Requires, Type)
	}
}

func TestWrapWhenDisabled(t *testing.T) {
	started := false
	r := plugin.Registration{Type: "t", ID: "i", InitFn: func(*plugin.InitContext) (any, error) { started = true; return 1, nil }}
	WrapCRI(&r)
	if _, err := r.InitFn(plugin.NewContext(t.Context(), plugin.NewPluginSet(), nil)); err != nil || !started {
		t.Errorf("started %v, %v", started, err)
	}
}

func TestWrapShims(t *testing.T) {
	for name, tc := range map[string]struct {
		user, want []string
		slice      string
	}{
		"added":     {user: []string{"A=b"}, want: []string{"A=b", "QUOIN_CGROUP_DRIVER=systemd"}},
		"set":       {user: []string{"QUOIN_CGROUP_DRIVER=cgroupfs"}, want: []string{"QUOIN_CGROUP_DRIVER=cgroupfs"}},
		"slice":     {want: []string{"QUOIN_CGROUP_DRIVER=systemd", "QUOIN_SHIM_SLICE=pod"}, slice: "pod"},
		"slice set": {user: []string{"QUOIN_SHIM_SLICE=a.slice"}, want: []string{"QUOIN_SHIM_SLICE=a.slice", "QUOIN_CGROUP_DRIVER=systemd"}, slice: "pod"},
	} {
		t.Run(name, func(t *testing.T) {
			config := &shimv2.ShimConfig{Env: tc.user}
			r := plugin.Registration{Type: plugins.ShimPlugin, ID: "manager", Config: config,
				InitFn: func(*plugin.InitContext) (any, error) { return nil, nil }}
			WrapShims(&r)
			set := plugin.NewPluginSet()
			ours := plugin.Registration{Type: Type, ID: ID, InitFn: func(*plugin.InitContext) (any, error) {
				return &Driver{decision: Decision{Driver: cgroup.Systemd}, shimSlice: tc.slice}, nil
			}}
			must(t, set.Add(ours.Init(plugin.NewContext(t.Context(), set, nil))))
			ic := plugin.NewContext(t.Context(), set, nil)
			ic.Config = config
			_, err := r.InitFn(ic)
			must(t, err)
			if d := cmp.Diff(tc.want, config.Env); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestViewOfStranger(t *testing.T) {
	for _, v := range []any{nil, 1, struct{}{}, &struct{ Runtimes []string }{}, &struct {
		DefaultRuntimeName string
		Runtimes           map[string]int
	}{}} {
		if _, err := viewOf(v); err == nil {
			data, _ := json.Marshal(v)
			t.Errorf("%s is taken for CRI's configuration", data)
		}
	}
}

func TestShimSlice(t *testing.T) {
	for slice, ok := range map[string]bool{
		"": true, "pod": true, "shims.slice": true, "kubepods-shims.slice": true,
		".slice": false, "shims": false, "a/b.slice": false, "a:b.slice": false, "a b.slice": false,
	} {
		if err := (&Config{ShimSlice: slice}).check(); (err == nil) != ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", slice, err)
		}
	}
}
