// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// bare encodes options as containerd does: the type's name without a prefix.
func bare(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	value, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}
}

// TestBothAPIs: one server speaks version 3 and version 2, to the same task.
func TestBothAPIs(t *testing.T) {
	c := newStarter(t, []string{"sh", "-c", "exit 12"}).start(t)
	created, err := c.v3.Create(c.ctx(t), &taskv3.CreateTaskRequest{ID: c.id, Bundle: c.bundle})
	if err != nil {
		t.Fatal(err)
	}
	state, err := c.v2.State(c.ctx(t), &taskv2.StateRequest{ID: c.id})
	if err != nil || state.Pid != created.Pid || state.Bundle != c.bundle {
		t.Fatalf("v2 sees %v, %v; v3 created pid %d", state, err, created.Pid)
	}
	if _, err := c.v2.Start(c.ctx(t), &taskv2.StartRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice: the answer stays
		exit, err := c.v3.Wait(c.ctx(t), &taskv3.WaitRequest{ID: c.id})
		if err != nil || exit.ExitStatus != 12 {
			t.Errorf("wait: %v, %v", exit, err)
		}
	}
	// Statistics and state are answered until the deletion.
	if _, err := c.v2.Stats(c.ctx(t), &taskv2.StatsRequest{ID: c.id}); err != nil {
		t.Errorf("statistics after the exit: %v", err)
	}
	connected, err := c.v3.Connect(c.ctx(t), &taskv3.ConnectRequest{ID: c.id})
	if err != nil || connected.ShimPid != uint32(harness.Shims(c.id)[0].PID) {
		t.Errorf("connect: %v, %v", connected, err)
	}
	deleted, err := c.v2.Delete(c.ctx(t), &taskv2.DeleteRequest{ID: c.id})
	if err != nil || deleted.ExitStatus != 12 {
		t.Errorf("delete: %v, %v", deleted, err)
	}
}

// TestLegacyStart: containerd 1.6 writes the options, or nothing, and takes
// the whole output for the address.
func TestLegacyStart(t *testing.T) {
	anyOptions, err := proto.Marshal(bare(t, &options.Options{Root: "/run/legacy-root"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, stdin := range map[string][]byte{"nothing": nil, "options": anyOptions} {
		t.Run(name, func(t *testing.T) {
			s := newStarter(t, []string{"sleep", "1000"})
			out, stderr, err := s.run(t, stdin, "start")
			if err != nil || stderr != "" {
				t.Fatalf("start: %v, %q", err, stderr)
			}
			c := s.dial(t, string(out))
			address, err := os.ReadFile(filepath.Join(s.bundle, "address"))
			if err != nil || string(address) != string(out) {
				t.Errorf("the bundle's address file: %q, %v; want %q", address, err, out)
			}
			if _, err := c.v2.Create(c.ctx(t), &taskv2.CreateTaskRequest{ID: c.id, Bundle: c.bundle}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.v2.Start(c.ctx(t), &taskv2.StartRequest{ID: c.id}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSocket: the socket is for root alone, in a directory for root alone, at
// a name that `ctr shim` computes.
func TestSocket(t *testing.T) {
	s := newStarter(t, []string{"true"})
	s.start(t)
	for path, want := range map[string]os.FileMode{"/run/containerd/s": 0o700} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", path, info, err, want)
		}
	}
	sockets, err := filepath.Glob("/run/containerd/s/*")
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets %v, %v", sockets, err)
	}
	info, err := os.Stat(sockets[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v; want mode 600", sockets[0], info, err)
	}
}

// TestSocketDirectory: the daemon's choice counts, and one that is too long for
// a socket is refused with the reason.
func TestSocketDirectory(t *testing.T) {
	dir := "/run/other-sockets"
	s := newStarter(t, []string{"true"})
	s.start(t, func(p *bootapi.BootstrapParams) { p.SocketDir = &dir })
	if sockets, err := filepath.Glob(dir + "/*"); err != nil || len(sockets) != 1 {
		t.Errorf("sockets in %s: %v, %v", dir, sockets, err)
	}
	long := "/run/" + strings.Repeat("long", 30)
	out, stderr, err := s.run(t, s.params(t, func(p *bootapi.BootstrapParams) { p.SocketDir = &long }), "start")
	if err == nil || !strings.Contains(stderr, "socket path") || !strings.Contains(stderr, "socket_dir") {
		t.Errorf("a socket path that is too long: %q, %q, %v", out, stderr, err)
	}
}

// TestInfo: the answer to -info names the runtime's real features.
func TestInfo(t *testing.T) {
	for name, tc := range map[string]struct {
		options proto.Message
		rro     bool
	}{
		"default":                   {options: nil, rro: true},
		"runc options":              {options: &options.Options{BinaryName: filepath.Join(harness.BinDir(), "runc")}, rro: true},
		"runtimeoptions, TOML":      {options: &runtimeoptions.Options{TypeUrl: "x", ConfigBody: []byte("BinaryName = \"" + filepath.Join(harness.BinDir(), "runc") + "\"\n")}, rro: true},
		"an older runtime, by name": {options: &options.Options{BinaryName: harness.DebianRunc.Path()}, rro: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStarter(t, []string{"true"})
			s.args = []string{"-info"}
			var stdin []byte
			if tc.options != nil {
				var err error
				if stdin, err = proto.Marshal(bare(t, tc.options)); err != nil {
					t.Fatal(err)
				}
			}
			out, stderr, err := s.run(t, stdin, "")
			if err != nil {
				t.Fatalf("-info: %v, %s", err, stderr)
			}
			var info types.RuntimeInfo
			if err := proto.Unmarshal(out, &info); err != nil {
				t.Fatal(err)
			}
			if info.Name != config.RuntimeType || info.Version.GetVersion() == "" {
				t.Errorf("name %q, version %v", info.Name, info.Version)
			}
			var f features.Features
			if err := json.Unmarshal(info.Features.GetValue(), &f); err != nil {
				t.Fatalf("features %q: %v", info.Features.GetValue(), err)
			}
			if f.OCIVersionMax == "" || f.Linux == nil || len(f.Linux.Namespaces) == 0 {
				t.Errorf("features %+v", f)
			}
		})
	}
}

// TestVersion: -v prints what the binary is.
func TestVersion(t *testing.T) {
	s := newStarter(t, []string{"true"})
	s.args = []string{"-v"}
	out, stderr, err := s.run(t, nil, "")
	if err != nil || !strings.Contains(string(out), "Version:") {
		t.Errorf("-v: %q, %q, %v", out, stderr, err)
	}
}

// TestDelete: the action cleans up after a shim that was killed, and tells how
// the container ended.
func TestDelete(t *testing.T) {
	s := newStarter(t, []string{"sleep", "1000"})
	out, stderr, err := s.run(t, s.params(t), "start")
	if err != nil {
		t.Fatalf("start: %v, %q", err, stderr)
	}
	var result bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &result); err != nil {
		t.Fatal(err)
	}
	c := s.dial(t, result.Address)
	created, err := c.v3.Create(c.ctx(t), &taskv3.CreateTaskRequest{ID: c.id, Bundle: c.bundle})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Start(c.ctx(t), &taskv3.StartRequest{ID: c.id}); err != nil {
		t.Fatal(err)
	}
	shim, err := os.FindProcess(harness.Shims(c.id)[0].PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := shim.Kill(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the shim is gone", func() string { return harness.Describe(harness.Shims(c.id)) })
	if harness.Gone(int(created.Pid)) {
		t.Fatal("the container went with its shim")
	}
	s.args = []string{"-bundle", s.bundle}
	out, stderr, err = s.run(t, nil, "delete")
	if err != nil {
		t.Fatalf("delete: %v, %q", err, stderr)
	}
	var deleted taskv3.DeleteResponse
	if err := proto.Unmarshal(out, &deleted); err != nil {
		t.Fatalf("delete answered %q: %v", out, err)
	}
	if deleted.ExitStatus != 137 || deleted.Pid != created.Pid {
		t.Errorf("delete answered %v", &deleted)
	}
	harness.Eventually(t, "the container is gone", func() string {
		if p, ok := harness.FindProcess(int(created.Pid)); ok {
			return p.String()
		}
		return ""
	})
	if err := os.Remove(strings.TrimPrefix(result.Address, "unix://")); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestRestartedStart: a second start for a live shim finds it; one for a dead
// shim takes the place of the socket that was left.
func TestRestartedStart(t *testing.T) {
	s := newStarter(t, []string{"true"})
	s.start(t)
	first := harness.Shims(s.id)
	if _, stderr, err := s.run(t, s.params(t), "start"); err != nil {
		t.Fatalf("second start: %v, %q", err, stderr)
	}
	if second := harness.Shims(s.id); len(second) != 1 || second[0].PID != first[0].PID {
		t.Errorf("shims after a second start:\n%s", harness.Describe(second))
	}
	p, err := os.FindProcess(first[0].PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	// Whole: while it ends it has no name any more, and still its socket.
	harness.Eventually(t, "the shim is gone", func() string {
		if p, ok := harness.FindProcess(first[0].PID); ok {
			return p.String()
		}
		return ""
	})
	s.start(t)
	if third := harness.Shims(s.id); len(third) != 1 || third[0].PID == first[0].PID {
		t.Errorf("shims after a start over a stale socket:\n%s", harness.Describe(third))
	}
}
