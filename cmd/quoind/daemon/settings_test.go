// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/quoin-io/quoin/config"
)

// printed parses the output of "config default" or "config dump".
func printed(t *testing.T, args ...string) map[string]any {
	t.Helper()
	stdout, stderr, err := quoind(t, args...)
	if err != nil {
		t.Fatalf("quoind %q: %v\n%s", args, err, stderr)
	}
	var settings map[string]any
	if err := toml.Unmarshal([]byte(stdout), &settings); err != nil {
		t.Fatalf("quoind %q prints no TOML: %v", args, err)
	}
	return settings
}

// at follows keys into tables; what is not there is nil.
func at(settings map[string]any, keys ...string) any {
	var value any = settings
	for _, key := range keys {
		table, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = table[key]
	}
	return value
}

var cri = []string{"plugins", "io.containerd.cri.v1.runtime"}

func criAt(settings map[string]any, keys ...string) any {
	return at(settings, append(cri[:2:2], keys...)...)
}

func TestConfigDefault(t *testing.T) {
	got := printed(t, "config", "default")
	for _, want := range []struct {
		value any
		keys  []string
	}{
		{int64(4), []string{"version"}},
		{"/var/lib/quoind", []string{"root"}},
		{"/run/quoind", []string{"state"}},
		{[]any{"/etc/quoind/conf.d/*.toml"}, []string{"imports"}},
		{"/run/quoind/quoind.sock", []string{"plugins", grpcURI, "address"}},
		{int64(16 << 20), []string{"plugins", grpcURI, "max_recv_message_size"}},
		{"/run/quoind/quoind.sock.ttrpc", []string{"plugins", ttrpcURI, "address"}},
		{"/run/quoind/s", []string{"plugins", shimURI, "socket_dir"}},
		{"/run/quoind/nri.sock", []string{"plugins", nriURI, "socket_path"}},
		{"quoin", append(cri[:2:2], "containerd", "default_runtime_name")},
		{config.RuntimeType, append(cri[:2:2], "containerd", "runtimes", "quoin", "runtime_type")},
		{[]any{"/opt/cni/bin", "/usr/lib/cni"}, append(cri[:2:2], "cni", "bin_dirs")},
		{"2s", []string{"timeouts", "io.containerd.timeout.task.state"}},
		{"20s", []string{"timeouts", "io.containerd.timeout.shim.cleanup"}},
	} {
		if value := at(got, want.keys...); !reflect.DeepEqual(value, want.value) {
			t.Errorf("%q = %v, want %v", want.keys, value, want.value)
		}
	}
	if options := criAt(got, "containerd", "runtimes", "quoin", "options"); options != nil {
		t.Errorf("handler quoin has options %v: containers of pods with a user namespace would not start", options)
	}
}

// What is printed as the default must mean the same when it is the file.
func TestConfigDefaultIsAFixedPoint(t *testing.T) {
	stdout, _, err := quoind(t, "config", "default")
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, stdout)
	if diff := cmp.Diff(printed(t, "config", "default"), printed(t, "--config", file, "config", "dump")); diff != "" {
		t.Errorf("default, then dump of the default as a file (-first +second):\n%s", diff)
	}
}

func TestUserFileOverrides(t *testing.T) {
	file := writeFile(t, `
version = 3
state = "/run/other"
disabled_plugins = ["io.containerd.cri.v1.runtime"]
[grpc]
address = "/run/other/api.sock"
uid = 5
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/only"]
use_internal_loopback = false
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "mine"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.mine]
runtime_type = "io.containerd.mine.v1"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.quoin]
snapshotter = "native"
`)
	got := printed(t, "--config", file, "config", "dump")
	for _, want := range []struct {
		value any
		keys  []string
	}{
		{"/var/lib/quoind", []string{"root"}},
		{"/run/other", []string{"state"}},
		{"/run/other/api.sock", []string{"plugins", grpcURI, "address"}},
		{"/run/other/api.sock.ttrpc", []string{"plugins", ttrpcURI, "address"}},
		{int64(5), []string{"plugins", ttrpcURI, "uid"}},
		{"/run/other/s", []string{"plugins", shimURI, "socket_dir"}},
		{"/run/other/nri.sock", []string{"plugins", nriURI, "socket_path"}},
	} {
		if value := at(got, want.keys...); !reflect.DeepEqual(value, want.value) {
			t.Errorf("%q = %v, want %v", want.keys, value, want.value)
		}
	}
	for _, uri := range toStrings(at(got, "required_plugins")) {
		if uri == "io.containerd.cri.v1.runtime" {
			t.Error("a plugin that the user disabled is still required")
		}
	}
}

// A handler of the user's is merged into quoind's, not put in its place.
func TestUserFileMergesHandlers(t *testing.T) {
	file := writeFile(t, `
version = 4
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/only"]
use_internal_loopback = false
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.quoin]
snapshotter = "native"
`)
	got := printed(t, "--config", file, "config", "dump")
	for _, want := range []struct {
		value any
		keys  []string
	}{
		{"quoin", []string{"containerd", "default_runtime_name"}},
		{config.RuntimeType, []string{"containerd", "runtimes", "quoin", "runtime_type"}},
		{"native", []string{"containerd", "runtimes", "quoin", "snapshotter"}},
		{[]any{"/only"}, []string{"cni", "bin_dirs"}},
		{false, []string{"cni", "use_internal_loopback"}},
	} {
		if value := criAt(got, want.keys...); !reflect.DeepEqual(value, want.value) {
			t.Errorf("%q = %v, want %v", want.keys, value, want.value)
		}
	}
}

// Drop-ins override the main file, whether it is there or not, unless it says
// what it imports.
func TestDropIns(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("1.conf", "version = 4\nstate = '/one'")
	write("2.conf", "version = 4\nstate = '/two'")
	for name, tc := range map[string]struct {
		file        string
		root, state string
	}{
		"absent":         {write("absent", "") + "-not", "/var/lib/quoind", "/two"},
		"no imports":     {write("plain", "version = 4\nroot = '/r'\nstate = '/main'"), "/r", "/two"},
		"empty imports":  {write("alone", "version = 4\nimports = []\nstate = '/main'"), "/var/lib/quoind", "/main"},
		"imports of one": {write("chosen", "version = 4\nimports = ['1.conf']\nstate = '/main'"), "/var/lib/quoind", "/one"},
	} {
		settings, err := resolve(t.Context(), request{config: tc.file, dropIns: filepath.Join(dir, "*.conf")})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if settings.Root != tc.root || settings.State != tc.state {
			t.Errorf("%s: root %q, state %q; want %q, %q", name, settings.Root, settings.State, tc.root, tc.state)
		}
	}
}

func TestFlagsOverrideTheFile(t *testing.T) {
	file := writeFile(t, `
version = 4
root = "/srv/root"
state = "/srv/state"
[plugins."io.containerd.shim.v1.manager"]
socket_dir = "/srv/s"
`)
	dir := t.TempDir()
	got := printed(t, "--config", file, "--root", dir+"/r", "--state", dir+"/st", "--address", dir+"/a.sock", "config", "dump")
	for _, want := range []struct {
		value string
		keys  []string
	}{
		{dir + "/r", []string{"root"}},
		{dir + "/st", []string{"state"}},
		{dir + "/a.sock", []string{"plugins", grpcURI, "address"}},
		{dir + "/a.sock.ttrpc", []string{"plugins", ttrpcURI, "address"}},
		{"/srv/s", []string{"plugins", shimURI, "socket_dir"}},
	} {
		if value := at(got, want.keys...); value != want.value {
			t.Errorf("%q = %v, want %v", want.keys, value, want.value)
		}
	}
}

func TestBadConfiguration(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		args       []string
		want       string
	}{
		{"malformed", "version = ", nil, "config.toml: failed to unmarshal TOML at row 1"},
		{"newer version", "version = 99", nil, "expected containerd config version"},
		{"same directories", "version = 4\nroot = '/x'\nstate = '/x'", nil, "they must differ"},
		{"section is no table", "version = 4\n[plugins]\n'" + grpcURI + "' = 1", nil, "is int64, not a table"},
		{"long address", "version = 4", []string{"--address", "/" + strings.Repeat("a", 110)}, "choose a shorter one"},
		{"wrong type in a plugin", "version = 4\n[plugins.'" + shimURI + "']\nsocket_dir = 1", nil, "settings of plugin " + shimURI},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"--config", writeFile(t, tc.file)}, tc.args...)
			_, stderr, err := quoind(t, append(args, "config", "dump")...)
			if err == nil || !strings.Contains(stderr, tc.want) {
				t.Errorf("error %v, stderr %q; want %q in it", err, stderr, tc.want)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, stderr, err := quoind(t, "--config", t.TempDir()+"/none.toml", "config", "dump")
		if err == nil || !strings.Contains(stderr, "none.toml: no such file") {
			t.Errorf("error %v, stderr %q", err, stderr)
		}
	})
}

func toStrings(value any) []string {
	var out []string
	list, _ := value.([]any)
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
