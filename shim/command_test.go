// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"

	"github.com/quoin-io/quoin/config"
)

func TestInfo(t *testing.T) {
	b := newBed(t)
	dir := t.TempDir()
	r := execute(t, dir, []string{"TMPDIR=" + dir}, b.encode(b.options()), "-info")
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	var info types.RuntimeInfo
	if err := proto.Unmarshal(r.stdout, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != config.RuntimeType || info.Version.GetVersion() == "" || info.Options.GetTypeUrl() != "containerd.runc.v1.Options" {
		t.Errorf("%v", &info)
	}
	// As containerd's CRI plugin reads it.
	typeurl.Register(&features.Features{}, "types.containerd.io", "opencontainers", "runtime-spec", "1", "features", "Features")
	v, err := typeurl.UnmarshalAny(info.Features)
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := v.(*features.Features); !ok || f.OCIVersionMax != "1.3.0" || len(f.MountOptions) == 0 {
		text, _ := json.Marshal(v)
		t.Errorf("%s", text)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestBadInfo(t *testing.T) {
	for name, stdin := range map[string]string{"rubbish": "\xff\xff", "unknown options": "\x0a\x03abc\x12\x01x"} {
		if r := execute(t, t.TempDir(), nil, []byte(stdin), "-info"); r.code != 1 || len(r.stdout) > 0 || r.stderr == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// Without a runtime in the PATH.
	if r := execute(t, t.TempDir(), []string{"PATH=/nowhere"}, nil, "-info"); r.code != 1 || len(r.stdout) > 0 || !strings.Contains(r.stderr, "runc") {
		t.Errorf("no runtime: %+v", r)
	}
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"-v", "-version", "--version"} {
		r := execute(t, t.TempDir(), nil, nil, flag)
		if r.code != 0 || r.stderr != "" || !strings.HasPrefix(string(r.stdout), config.ShimBinary+":\n  Version:  "+config.Version+"\n") {
			t.Errorf("%s: %+v", flag, r)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"help":         {[]string{"-help"}, 0, "Usage:"},
		"flag":         {[]string{"-levitate"}, 1, "levitate"},
		"action":       {[]string{"-namespace", "n", "levitate"}, 1, `unknown action "levitate"`},
		"two actions":  {[]string{"-namespace", "n", "start", "delete"}, 1, "unexpected arguments"},
		"no namespace": {[]string{"-id", "c", "start"}, 1, "-namespace is missing"},
		"no id":        {[]string{"-namespace", "n", "start"}, 1, "id"},
		"no value":     {[]string{"-namespace"}, 1, "namespace"},
	} {
		r := execute(t, t.TempDir(), nil, nil, tc.args...)
		if r.code != tc.code || len(r.stdout) > 0 || !strings.Contains(r.stderr, tc.says) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestEnvironment: the daemon's environment reaches the OCI runtimes, but for the
// processors that the daemon uses, and with none of the shim's descriptors.
func TestEnvironment(t *testing.T) {
	b := newBed(t)
	b.env = []string{"GOMAXPROCS=7", "SOMETHING=else", "TTRPC_ADDRESS=/no/such/socket"}
	s := b.start()
	s.run(b)
	for _, call := range b.fake.Calls() {
		env := strings.Join(call.Env, "\n") + "\n"
		if strings.Contains(env, "GOMAXPROCS=7") || !strings.Contains(env, "SOMETHING=else\n") {
			t.Errorf("%s: %s", call.Step, env)
		}
		if call.FDs["0"] != "/dev/null" || strings.Contains(call.FDs["3"], "socket:") {
			t.Errorf("%s: descriptors %v", call.Step, call.FDs)
		}
	}
	s.remove(b)
}

// TestBadDriver: a shim that was told nonsense says so, in the log.
func TestBadDriver(t *testing.T) {
	b := newBed(t)
	b.env = []string{"QUOIN_CGROUP_DRIVER=levitation"}
	r := b.run(nil, "-socket", filepath.Join(b.sockets, "s"))
	if r.code != 1 || !strings.Contains(r.stderr, "levitation") {
		t.Errorf("%+v", r)
	}
}
