// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/coreos/go-systemd/v22/unit"
	"github.com/pelletier/go-toml/v2"
	"sigs.k8s.io/yaml"

	_ "github.com/containerd/containerd/v2/plugins/cri/runtime" // its settings are what the files set

	"github.com/quoin-io/quoin/config"
)

const criRuntime = "io.containerd.cri.v1.runtime"

// handler is what the tests look at of a CRI runtime handler.
type handler struct {
	Type    string         `toml:"runtime_type"`
	Path    string         `toml:"runtime_path"`
	Options map[string]any `toml:"options"`
}

type criSettings struct {
	Containerd struct {
		Default  string             `toml:"default_runtime_name"`
		Handlers map[string]handler `toml:"runtimes"`
	} `toml:"containerd"`
}

// load reads a shipped file as containerd does, migration included, and
// returns the settings that its CRI plugin would get.
func load(t *testing.T, file string) (*srvconfig.Config, criSettings) {
	t.Helper()
	regs := registry.Graph(nil)
	settings := &srvconfig.Config{Version: version.ConfigVersion, Plugins: map[string]any{}}
	if file == "quoind.toml" {
		settings.StreamProcessors = map[string]srvconfig.StreamProcessor{}
	}
	plugins := func() iter.Seq[plugin.Registration] { return slices.Values(regs) }
	if err := srvconfig.LoadConfigWithPlugins(t.Context(), file, plugins, settings); err != nil {
		t.Fatalf("containerd cannot read %s: %v", file, err)
	}
	i := slices.IndexFunc(regs, func(r plugin.Registration) bool { return r.URI() == criRuntime })
	if i < 0 {
		t.Fatalf("containerd has no plugin %s", criRuntime)
	}
	// A copy: decoding changes what it decodes into.
	fresh := reflect.New(reflect.TypeOf(regs[i].Config).Elem()).Interface()
	convert(t, regs[i].Config, fresh)
	strict(t, file, settings.Plugins[criRuntime], fresh)
	decoded, err := settings.Decode(context.Background(), criRuntime, fresh)
	if err != nil {
		t.Fatalf("containerd's CRI plugin refuses %s: %v", file, err)
	}
	var cri criSettings
	convert(t, decoded, &cri)
	return settings, cri
}

func convert(t *testing.T, from, to any) {
	t.Helper()
	text, err := toml.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := toml.Unmarshal(text, to); err != nil {
		t.Fatal(err)
	}
}

// strict fails on a key that the plugin does not know; containerd only warns.
func strict(t *testing.T, file string, section, like any) {
	t.Helper()
	text, err := toml.Marshal(section)
	if err != nil {
		t.Fatal(err)
	}
	probe := reflect.New(reflect.TypeOf(like).Elem()).Interface()
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(probe); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

func TestShippedTOMLGivesTheHandler(t *testing.T) {
	for _, tc := range []struct {
		file    string
		want    handler
		systemd bool // RuntimeConfig of stock containerd says systemd
	}{
		{"quoind.toml", handler{Type: config.RuntimeType}, false},
		{"containerd-1.7.toml", handler{Type: config.RuntimeType}, false},
		{"containerd-runtime-type.toml", handler{Type: config.RuntimeType}, true},
		{"containerd-runtime-path.toml", handler{
			Type:    "io.containerd.runc.v2",
			Path:    "/usr/local/bin/" + config.ShimBinary,
			Options: map[string]any{"SystemdCgroup": true},
		}, true},
	} {
		t.Run(tc.file, func(t *testing.T) {
			_, cri := load(t, tc.file)
			if cri.Containerd.Default != "quoin" {
				t.Errorf("default handler %q, want quoin", cri.Containerd.Default)
			}
			got := cri.Containerd.Handlers["quoin"]
			if got.Type != tc.want.Type || got.Path != tc.want.Path {
				t.Errorf("handler %+v, want %+v", got, tc.want)
			}
			if len(got.Options) != len(tc.want.Options) {
				t.Errorf("options %v, want %v", got.Options, tc.want.Options)
			}
			if got := saysSystemd(cri); got != tc.systemd {
				t.Errorf("stock containerd would tell the kubelet systemd=%t, want %t", got, tc.systemd)
			}
		})
	}
}

// saysSystemd is containerd's rule: the default handler answers when it has
// runc's type, else runc's own handler does.
func saysSystemd(cri criSettings) bool {
	for _, name := range []string{cri.Containerd.Default, "runc"} {
		if h := cri.Containerd.Handlers[name]; h.Type == "io.containerd.runc.v2" {
			on, _ := h.Options["SystemdCgroup"].(bool)
			return on
		}
	}
	return false
}

func TestEveryShippedTOMLIsTested(t *testing.T) {
	files, err := filepath.Glob("*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no shipped TOML found: %v", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) { load(t, file) })
	}
}

func TestQuoindTOMLAgreesWithGo(t *testing.T) {
	settings, _ := load(t, "quoind.toml")
	want := config.DefaultDaemon()
	if settings.Root != want.Root || settings.State != want.State {
		t.Errorf("root %q, state %q; Go says %q, %q", settings.Root, settings.State, want.Root, want.State)
	}
	if !slices.Equal(settings.Imports, []string{want.DropIns}) {
		t.Errorf("imports %q, want %q", settings.Imports, want.DropIns)
	}
	for uri, setting := range map[string]struct{ key, want string }{
		"io.containerd.server.v1.grpc":  {"address", want.Address},
		"io.containerd.server.v1.ttrpc": {"address", want.TTRPCAddress()},
		"io.containerd.shim.v1.manager": {"socket_dir", want.ShimSocketDir()},
		"io.containerd.nri.v1.nri":      {"socket_path", want.NRISocket()},
	} {
		section, _ := settings.Plugins[uri].(map[string]any)
		if section[setting.key] != setting.want {
			t.Errorf("%s: %s = %v, want %q", uri, setting.key, section[setting.key], setting.want)
		}
	}
	text, err := os.ReadFile("quoind.toml")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != config.QuoindTOML() {
		t.Error("quoind.toml is not what is compiled in")
	}
}

func TestUnit(t *testing.T) {
	file, err := os.Open("quoind.service")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	options, err := unit.DeserializeOptions(file)
	if err != nil {
		t.Fatalf("systemd's format: %v", err)
	}
	got := map[string]string{}
	for _, o := range options {
		got[o.Section+"."+o.Name] = o.Value
	}
	for name, want := range map[string]string{
		"Unit.After":             "dbus.service network.target local-fs.target",
		"Service.Type":           "notify",
		"Service.Delegate":       "yes",
		"Service.KillMode":       "process",
		"Service.OOMScoreAdjust": "-999",
		"Service.TasksMax":       "infinity",
		"Service.ExecStart":      "/usr/local/bin/quoind",
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
}

func TestExamplesNameTheSocket(t *testing.T) {
	endpoint := "unix://" + config.DefaultDaemon().Address
	for file, keys := range map[string][]string{
		"kubelet-config.yaml": {"containerRuntimeEndpoint"},
		"crictl.yaml":         {"runtime-endpoint", "image-endpoint"},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := yaml.Unmarshal(text, &fields); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, key := range keys {
			if fields[key] != endpoint {
				t.Errorf("%s: %s = %v, want %s", file, key, fields[key], endpoint)
			}
		}
	}
}

func TestDockerExampleNamesTheType(t *testing.T) {
	text, err := os.ReadFile("docker-daemon.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Default  string `json:"default-runtime"`
		Runtimes map[string]struct {
			Type string `json:"runtimeType"`
		} `json:"runtimes"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if got := file.Runtimes[file.Default].Type; got != config.RuntimeType {
		t.Errorf("the default runtime %q has type %q, want %q", file.Default, got, config.RuntimeType)
	}
}
