// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/proto"
)

var allOptions = Options{
	NoPivotRoot: true, NoNewKeyring: true, ShimCgroup: "/shims", IoUID: 1000, IoGID: 2147483647, BinaryName: "crun",
	Root: "/run/x y", SystemdCgroup: true, CriuImagePath: "/img", CriuWorkPath: "/work",
}

var allRunc = &options.Options{
	NoPivotRoot: true, NoNewKeyring: true, ShimCgroup: "/shims", IoUid: 1000, IoGid: 2147483647, BinaryName: "crun",
	Root: "/run/x y", SystemdCgroup: true, CriuImagePath: "/img", CriuWorkPath: "/work",
}

func TestParseOptionsRunc(t *testing.T) {
	a, err := typeurl.MarshalAny(allRunc)
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{a.GetTypeUrl(), "containerd.runc.v1.Options", "types.containerd.io/containerd.runc.v1.Options"} {
		got, err := ParseOptions(url, a.GetValue())
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if d := cmp.Diff(allOptions, got); d != "" {
			t.Errorf("%s: %s", url, d)
		}
	}
}

// CRI marshals the handler's options table and sends it as it is.
func TestParseOptionsRuntime(t *testing.T) {
	camel, err := toml.Marshal(map[string]any{
		"NoPivotRoot": true, "NoNewKeyring": true, "ShimCgroup": "/shims", "IoUid": 1000, "IoGid": 2147483647, "BinaryName": "crun",
		"Root": "/run/x y", "SystemdCgroup": true, "CriuImagePath": "/img", "CriuWorkPath": "/work",
		"TypeUrl": "runtimeoptions.v1.Options", "CriuPath": "/usr/bin/criu",
	})
	if err != nil {
		t.Fatal(err)
	}
	snake := []byte("no_pivot_root = true\nno_new_keyring = true\nshim_cgroup = '/shims'\nio_uid = 1000\nio_gid = 2147483647\nbinary_name = 'crun'\n" +
		"root = '/run/x y'\nsystemd_cgroup = true\ncriu_image_path = '/img'\ncriu_work_path = '/work'\n")
	file := filepath.Join(t.TempDir(), "options.toml")
	if err := os.WriteFile(file, camel, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]*runtimeoptions.Options{
		"camel": {ConfigBody: camel}, "snake": {ConfigBody: snake}, "file": {ConfigPath: file}, "file first": {ConfigPath: file, ConfigBody: []byte("rubbish")},
	} {
		value, err := proto.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range []string{"runtimeoptions.v1.Options", "types.containerd.io/runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"} {
			got, err := ParseOptions(url, value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d := cmp.Diff(allOptions, got); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	body := func(s string) []byte {
		b, err := proto.Marshal(&runtimeoptions.Options{ConfigBody: []byte(s)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	uid, err := proto.Marshal(&options.Options{IoUid: 1 << 31})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		url   string
		value []byte
		says  string
	}{
		"other type":    {"google.protobuf.Empty", nil, "google.protobuf.Empty"},
		"no type":       {"", []byte{1}, "no type"},
		"garbage runc":  {"containerd.runc.v1.Options", []byte{0xff, 0xff}, "containerd.runc.v1.Options"},
		"garbage any":   {"runtimeoptions.v1.Options", []byte{0xff, 0xff}, "runtimeoptions.v1.Options"},
		"runc uid":      {"containerd.runc.v1.Options", uid, "IoUid"},
		"bad toml":      {"runtimeoptions.v1.Options", body("= ="), "malformed TOML"},
		"unknown key":   {"runtimeoptions.v1.Options", body("SystemdCgroups = true"), `"SystemdCgroups", valid are BinaryName, `},
		"wrong type":    {"runtimeoptions.v1.Options", body("SystemdCgroup = 'yes'"), `"SystemdCgroup"`},
		"negative uid":  {"runtimeoptions.v1.Options", body("IoUid = -1"), "IoUid"},
		"twice":         {"runtimeoptions.v1.Options", body("IoUid = 1\nio_uid = 2"), "the same option"},
		"relative path": {"runtimeoptions.v1.Options", []byte("\x12\x05x.tml"), "not absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseOptions(tc.url, tc.value)
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("not an invalid argument: %v", err)
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q does not say %q", err, tc.says)
			}
		})
	}
	value, err := proto.Marshal(&runtimeoptions.Options{ConfigPath: filepath.Join(t.TempDir(), "none.toml")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseOptions("runtimeoptions.v1.Options", value); !errdefs.IsNotFound(err) {
		t.Errorf("missing config path: %v", err)
	}
	if got, err := ParseOptions("", nil); err != nil || got != (Options{}) {
		t.Errorf("no options: %+v, %v", got, err)
	}
}

// Either shim reads what the other wrote: the runc shim uses encoding/json on
// the message.
func TestOptionsFile(t *testing.T) {
	b := newBundle(t)
	if got, err := b.ReadOptions(); err != nil || got != (Options{}) {
		t.Errorf("empty bundle: %+v, %v", got, err)
	}
	for _, tc := range []struct {
		o Options
		m *options.Options
	}{{allOptions, allRunc}, {Options{}, &options.Options{}}} {
		if err := b.WriteOptions(tc.o); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(b.Path(), "options.json"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(tc.m)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Error(d)
		}
		name, err := os.ReadFile(filepath.Join(b.Path(), "runtime"))
		if err != nil || string(name) != tc.o.BinaryName {
			t.Errorf("runtime = %q, %v", name, err)
		}
		back, err := b.ReadOptions()
		if err != nil || back != tc.o {
			t.Errorf("read back %+v, %v", back, err)
		}
	}
	if err := b.WriteOptions(Options{IoUID: -1}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("IoUID -1: %v", err)
	}
}

func TestReadOptionsTolerant(t *testing.T) {
	b := newBundle(t)
	if err := os.WriteFile(filepath.Join(b.Path(), "runtime"), []byte("crun"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ReadOptions(); err != nil || got != (Options{BinaryName: "crun"}) {
		t.Errorf("only runtime: %+v, %v", got, err)
	}
	path := filepath.Join(b.Path(), "options.json")
	if err := os.WriteFile(path, []byte(`{"binary_name":"youki","criu_path":"x","task_api_version":3,"new":{}}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ReadOptions(); err != nil || got != (Options{BinaryName: "youki"}) {
		t.Errorf("unknown fields: %+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte(`{"binary_`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadOptions(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), path) {
		t.Errorf("malformed: %v", err)
	}
}

func FuzzParseOptionsRunc(f *testing.F) {
	seed, err := proto.Marshal(allRunc)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, value []byte) { fuzzOptions(t, runcOptionsName, value) })
}

func FuzzParseOptionsRuntime(f *testing.F) {
	seed, err := proto.Marshal(&runtimeoptions.Options{TypeUrl: "x", ConfigBody: []byte("SystemdCgroup = true")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("\x12\x09/dev/null"))
	f.Fuzz(func(t *testing.T, value []byte) { fuzzOptions(t, runtimeOptionsName, value) })
}

func fuzzOptions(t *testing.T, url string, value []byte) {
	o, err := ParseOptions(url, value)
	if err != nil {
		if !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) && !strings.Contains(err.Error(), "config") && !strings.Contains(err.Error(), "runtime options: ") {
			t.Fatalf("error without a class: %v", err)
		}
		return
	}
	if _, err := o.message(); err != nil {
		t.Fatalf("accepted options that cannot be written: %v", err)
	}
}

func FuzzTOML(f *testing.F) {
	f.Add([]byte("SystemdCgroup = true\nBinaryName = 'crun'\n"))
	f.Add([]byte("io_uid = 9223372036854775807"))
	f.Add([]byte("[a]\nb=1"))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseTOML(body)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("error without a class: %v", err)
			}
			return
		}
		if _, err := o.message(); err != nil {
			t.Fatalf("accepted options that cannot be written: %v", err)
		}
	})
}
