// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestBadStart: what start refuses, with what words, leaving no shim behind.
func TestBadStart(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*testing.T, *starter)
		stdin  func(*testing.T, starter) []byte
		want   string
	}{
		{
			name:   "no config.json",
			change: func(t *testing.T, s *starter) { remove(t, filepath.Join(s.bundle, "config.json")) },
			want:   "config.json",
		},
		{
			name: "malformed config.json",
			change: func(t *testing.T, s *starter) {
				write(t, filepath.Join(s.bundle, "config.json"), `{"ociVersion": "1.0`)
			},
			want: "config.json",
		},
		{
			name:  "rubbish on stdin",
			stdin: func(*testing.T, starter) []byte { return []byte("\xff\xfe rubbish \x00\x01") },
			want:  "neither bootstrap parameters nor runtime options",
		},
		{
			name:  "parameters for another id",
			stdin: func(t *testing.T, s starter) []byte { s.id = "another"; return s.params(t) },
			want:  "not for this id",
		},
		{
			name:   "an id that leaves its directory",
			change: func(_ *testing.T, s *starter) { s.id = "../escape" },
			want:   "not a single path element",
		},
		{
			name: "a relative socket directory",
			stdin: func(t *testing.T, s starter) []byte {
				dir := "sockets"
				return s.params(t, func(p *bootapi.BootstrapParams) { p.SocketDir = &dir })
			},
			want: "not an absolute path",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStarter(t, []string{"true"})
			if tc.change != nil {
				tc.change(t, &s)
			}
			stdin := s.params(t)
			if tc.stdin != nil {
				stdin = tc.stdin(t, s)
			}
			out, stderr, err := s.run(t, stdin, "start")
			if err == nil {
				t.Fatalf("start succeeded: %q", out)
			}
			if !strings.Contains(stderr, tc.want) {
				t.Errorf("stderr %q, want %q in it", stderr, tc.want)
			}
			if shims := harness.Shims(s.id); len(shims) != 0 {
				t.Errorf("left behind:\n%s", harness.Describe(shims))
			}
		})
	}
}

// TestBadCreate: what Create refuses; the shim lives on and has nothing of it.
func TestBadCreate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(*testing.T, starter)
		change func(*testing.T, *taskv3.CreateTaskRequest)
		want   string
		class  func(error) bool
	}{
		{
			name:   "config.json vanished",
			before: func(t *testing.T, s starter) { remove(t, filepath.Join(s.bundle, "config.json")) },
			want:   "config.json",
		},
		{
			name:   "config.json malformed",
			before: func(t *testing.T, s starter) { write(t, filepath.Join(s.bundle, "config.json"), "{") },
			want:   "config.json",
		},
		{
			name:   "config.json of another shape",
			before: func(t *testing.T, s starter) { write(t, filepath.Join(s.bundle, "config.json"), `{"linux": "no"}`) },
			want:   "config.json",
		},
		{
			name:   "stdio of an unknown scheme",
			change: func(_ *testing.T, r *taskv3.CreateTaskRequest) { r.Stdout = "carrier-pigeon://loft" },
			want:   "carrier-pigeon",
			class:  errdefs.IsInvalidArgument,
		},
		{
			name:   "no bundle there",
			change: func(_ *testing.T, r *taskv3.CreateTaskRequest) { r.Bundle += "-not" },
			want:   "-not",
		},
		{
			name: "options of an unknown type",
			change: func(_ *testing.T, r *taskv3.CreateTaskRequest) {
				r.Options = &anypb.Any{TypeUrl: "example.com/Unknown", Value: []byte("x")}
			},
			want:  "example.com/Unknown",
			class: errdefs.IsInvalidArgument,
		},
		{
			name: "options with malformed TOML",
			change: func(t *testing.T, r *taskv3.CreateTaskRequest) {
				r.Options = bare(t, &runtimeoptions.Options{ConfigBody: []byte("BinaryName = [")})
			},
			want:  "TOML",
			class: errdefs.IsInvalidArgument,
		},
		{
			name: "a runtime that is not there",
			change: func(t *testing.T, r *taskv3.CreateTaskRequest) {
				r.Options = bare(t, &options.Options{BinaryName: "no-runc"})
			},
			want: `exec: "no-runc": executable file not found in $PATH`,
		},
		{
			name: "a root file system that cannot be mounted",
			change: func(_ *testing.T, r *taskv3.CreateTaskRequest) {
				r.Rootfs = []*types.Mount{{Type: "bind", Source: "/no/such/source", Options: []string{"rbind"}}}
			},
			want: "mount",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newStarter(t, []string{"sleep", "1000"}).start(t)
			if tc.before != nil {
				tc.before(t, c.starter)
			}
			request := &taskv3.CreateTaskRequest{ID: c.id, Bundle: c.bundle}
			if tc.change != nil {
				tc.change(t, request)
			}
			_, err := c.v3.Create(c.ctx(t), request)
			if err == nil {
				t.Fatal("the task was created")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want %q in it", err, tc.want)
			}
			if tc.class != nil && !tc.class(native(err)) {
				t.Errorf("the class of %v is not the one wanted", err)
			}
			c.wantNothing(t)
		})
	}
}

// TestRestoreWithoutCRIU: a checkpoint is restored by Start, which says what is
// missing; the task can be deleted afterwards.
func TestRestoreWithoutCRIU(t *testing.T) {
	c := newStarter(t, []string{"sleep", "1000"}).start(t)
	if _, err := c.v3.Create(c.ctx(t), &taskv3.CreateTaskRequest{ID: c.id, Bundle: c.bundle, Checkpoint: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Start(c.ctx(t), &taskv3.StartRequest{ID: c.id}); err == nil || !strings.Contains(err.Error(), "criu") {
		t.Errorf("start: %v, want an error that names criu", err)
	}
	if _, err := c.v3.Delete(c.ctx(t), &taskv3.DeleteRequest{ID: c.id}); err != nil {
		t.Errorf("delete: %v", err)
	}
	c.wantNothing(t)
}

// wantNothing fails unless the shim lives, knows no task and has no child.
func (c *conn) wantNothing(t *testing.T) {
	t.Helper()
	if _, err := c.v3.State(c.ctx(t), &taskv3.StateRequest{ID: c.id}); !errdefs.IsNotFound(native(err)) {
		t.Errorf("state after the refusal: %v, want not found", err)
	}
	shims := harness.Shims(c.id)
	if len(shims) != 1 {
		t.Fatalf("shims:\n%s", harness.Describe(shims))
	}
	harness.Eventually(t, "the shim has no child", func() string { return harness.Describe(harness.Children(shims[0].PID)) })
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), c.bundle) {
		t.Errorf("a mount is left in the bundle (%v)", err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
