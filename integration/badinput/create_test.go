// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestRefusedCreate: tasks that cannot be made.
func TestRefusedCreate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		c     harness.Container
		opts  func(*testing.T) *options.Options
		words []string
	}{
		{
			name:  "command not found in PATH",
			c:     harness.Container{Args: []string{"no-such-command"}},
			words: []string{`"no-such-command"`, "executable file not found in $PATH"},
		},
		{
			name:  "command not found",
			c:     harness.Container{Args: []string{"/no/such"}},
			words: []string{"/no/such", "no such file or directory"},
		},
		{
			name:  "command not executable",
			c:     harness.Container{Args: []string{"/plain"}},
			words: []string{"/plain", "permission denied"},
		},
		{
			name:  "command forbidden to the user",
			c:     harness.Container{Args: []string{"/secret"}, Spec: []oci.SpecOpts{oci.WithUIDGID(1000, 1000), oci.WithNoNewPrivileges, oci.WithCapabilities(nil)}},
			words: []string{"permission denied"},
		},
		{
			name:  "command a directory",
			c:     harness.Container{Args: []string{"/etc"}},
			words: []string{"/etc"},
		},
		{
			name:  "uid out of range",
			c:     harness.Container{Args: []string{"true"}, Spec: []oci.SpecOpts{oci.WithUIDGID(1<<32-1, 0)}},
			words: []string{"4294967295"},
		},
		{
			name:  "no arguments",
			c:     harness.Container{Spec: []oci.SpecOpts{withoutArgs}},
			words: []string{"args"},
		},
		{
			name:  "mount of what is not there",
			c:     harness.Container{Args: []string{"true"}, Spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{{Type: "bind", Source: "/no/such/source", Destination: "/x", Options: []string{"rbind"}}})}},
			words: []string{"/no/such/source", "no such file or directory"},
		},
		{
			name:  "a hook that fails",
			c:     harness.Container{Args: []string{"true"}, Spec: []oci.SpecOpts{withHook("/bin/false")}},
			words: []string{"hook"},
		},
		{
			name:  "runtime missing",
			opts:  func(*testing.T) *options.Options { return &options.Options{BinaryName: "no-runc"} },
			words: []string{`exec: "no-runc": executable file not found in $PATH`},
		},
		{
			name:  "runtime missing, by path",
			opts:  func(*testing.T) *options.Options { return &options.Options{BinaryName: "/no/such/runc"} },
			words: []string{"/no/such/runc", "no such file or directory"},
		},
		{
			name:  "runtime prints rubbish and fails",
			opts:  func(t *testing.T) *options.Options { return fake(t, `echo 'rubbish {"level": ' >&2; exit 3`) },
			words: []string{"rubbish"},
		},
		{
			name:  "runtime fails without a word",
			opts:  func(t *testing.T) *options.Options { return fake(t, `exit 3`) },
			words: []string{"3"},
		},
		{
			name:  "runtime succeeds and made nothing",
			opts:  func(t *testing.T) *options.Options { return fake(t, `echo fine`) },
			words: []string{"pid"},
		},
		{
			name:  "runtime crashes",
			opts:  func(t *testing.T) *options.Options { return fake(t, `kill -SEGV $$`) },
			words: []string{"segmentation fault"},
		},
		{
			name: "runtime is no program",
			opts: func(t *testing.T) *options.Options {
				path := filepath.Join(t.TempDir(), "text")
				if err := os.WriteFile(path, []byte("\x00\x01 no program"), 0o755); err != nil {
					t.Fatal(err)
				}
				return &options.Options{BinaryName: path}
			},
			words: []string{"exec format error"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := quoind(t)
			c := tc.c
			if tc.opts != nil {
				c.Args, c.Options = []string{"true"}, tc.opts(t)
			}
			r, err := d.TryCreate(t, harness.ID(t), c)
			wantError(t, "create", err, nil, tc.words...)
			if err == nil {
				return
			}
			if _, err := r.Container.Task(d.Context(t, ""), nil); !errdefs.IsNotFound(err) {
				t.Errorf("the task after its refusal: %v, want not found", err)
			}
			d.Remove(t, r.ID())
			harness.Leftovers(t, d)
		})
	}
}

func withoutArgs(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
	s.Process.Args = nil
	return nil
}

func withHook(path string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: path, Args: []string{path}}}}
		return nil
	}
}

// TestHangingRuntime: a client that gives up gets its error at once, and the
// runtime that hangs does not stay.
func TestHangingRuntime(t *testing.T) {
	d := quoind(t)
	container := d.New(t, harness.ID(t), harness.Container{Args: []string{"true"}, Options: fake(t, `case "$*" in *create*) exec sleep 987;; esac`)})
	ctx, cancel := context.WithTimeout(d.Context(t, ""), 3*time.Second)
	defer cancel()
	began := time.Now()
	_, err := container.NewTask(ctx, cio.NullIO)
	wantError(t, "create", err, errdefs.IsDeadlineExceeded)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the client that gave up after 3 s waited %v", took)
	}
	d.Remove(t, container.ID())
	harness.Leftovers(t, d)
}

// TestUnknownScheme: stdio that nobody knows.
func TestUnknownScheme(t *testing.T) {
	d := quoind(t)
	address, err := url.Parse("carrier-pigeon:///loft")
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.TryCreate(t, harness.ID(t), harness.Container{Args: []string{"true"}, IO: cio.LogURI(address)})
	wantError(t, "create", err, nil, "carrier-pigeon")
	d.Remove(t, harness.ID(t))
	harness.Leftovers(t, d)
}

// TestMissingLogger: a logging binary that is not there, and one that never
// says it is ready.
func TestMissingLogger(t *testing.T) {
	d := quoind(t)
	silent := filepath.Join(t.TempDir(), "silent")
	if err := os.WriteFile(silent, []byte("#!/bin/sh\nexit 4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"absent": "/no/such/logger", "exits": silent} {
		id := harness.ID(t, name)
		_, err := d.TryCreate(t, id, harness.Container{Args: []string{"true"}, IO: cio.BinaryIO(path, nil)})
		if name == "exits" && err == nil {
			// With binary:// the end of its ready pipe means ready.
			d.Remove(t, id)
			continue
		}
		wantError(t, name, err, nil, path)
		d.Remove(t, id)
	}
	harness.Leftovers(t, d)
}

// TestOddPaths: a state directory, and so every bundle, with spaces and UTF-8.
func TestOddPaths(t *testing.T) {
	d := harness.Start(t, harness.Spec{Kind: harness.KindQuoind, Name: "odd", State: "/run/d/b ü n 日"})
	r := d.Run(t, harness.ID(t), harness.Container{Args: []string{"sh", "-c", "echo odd; exit 8"}})
	if code := r.AwaitExit(t).ExitCode(); code != 8 {
		t.Errorf("exit code %d", code)
	}
	r.Stdout.Await(t, "odd\n")
	r.Delete(t)
	harness.Leftovers(t, d)
}

// TestLongStateDirectory: below it no path of a socket would fit. The shim's
// own socket is elsewhere then.
func TestLongStateDirectory(t *testing.T) {
	d := harness.Start(t, harness.Spec{Kind: harness.KindQuoind, Name: "long", State: "/run/" + strings.Repeat("long", 16)})
	r := d.Run(t, harness.ID(t), harness.Container{Args: []string{"sh", "-c", "exit 4"}})
	if code := r.AwaitExit(t).ExitCode(); code != 4 {
		t.Errorf("exit code %d", code)
	}
	r.Delete(t)
	harness.Leftovers(t, d)
}
