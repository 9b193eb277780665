// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/plugin"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/config"
)

func TestVersion(t *testing.T) {
	stdout, stderr, err := quoind(t, "-v")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	for _, want := range []string{"quoind", config.Version, "containerd"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q lacks %q", stdout, want)
		}
	}
}

func TestHelpNamesTheDefaultConfig(t *testing.T) {
	stdout, _, err := quoind(t, "--help")
	if err != nil || !strings.Contains(stdout, config.DefaultDaemon().Config) {
		t.Errorf("help (error %v) does not name %s:\n%s", err, config.DefaultDaemon().Config, stdout)
	}
}

// The whole daemon: on a root, state and socket of its own, with the plugins of
// Quoin's, until SIGTERM.
func TestServes(t *testing.T) {
	needsRoot(t)
	cmd, _, socket := daemonCommand(t)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	client, err := containerd.New(socket, containerd.WithTimeout(30*time.Second))
	if err != nil {
		t.Fatalf("quoind does not answer: %v", err)
	}
	defer client.Close()
	plugins, err := client.IntrospectionService().Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, p := range plugins.Plugins {
		found[p.Type+"."+p.ID] = p.InitErr == nil
	}
	for _, uri := range []string{"io.quoin.runtime.v1.quoin", "io.quoin.node.v1.cgroupdriver", "io.containerd.runtime.v2.task", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"} {
		if !found[uri] {
			t.Errorf("plugin %s did not start", uri)
		}
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("quoind ended with %v; its log:\n%s", err, log.String())
	}
}

func TestAppendDirs(t *testing.T) {
	for _, tc := range []struct{ path, want string }{
		{"/usr/bin:/bin", "/usr/bin:/bin:/opt/q/bin:/opt/q/libexec/quoin"},
		{"/opt/q/bin:/bin", "/opt/q/bin:/bin:/opt/q/libexec/quoin"},
		{"", "/opt/q/bin:/opt/q/libexec/quoin"},
	} {
		if got := appendDirs(tc.path, "/opt/q/bin/quoind"); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.path, got, tc.want)
		}
	}
}

// The machine's runc comes first, unless it is too old and the shipped one is not.
func TestPreferredDir(t *testing.T) {
	root := t.TempDir()
	exe := filepath.Join(root, "q/bin/quoind")
	libexec := filepath.Join(root, "q/libexec/quoin")
	runc := func(dir, version string) {
		t.Helper()
		dir = filepath.Join(root, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "runc"), []byte("#!/bin/sh\necho runc version "+version+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := func(dirs ...string) string {
		for i := range dirs {
			dirs[i] = filepath.Join(root, dirs[i])
		}
		return appendDirs(strings.Join(dirs, ":"), exe)
	}
	runc("old", "1.1.5")
	runc("new", "1.6.0")
	if got := preferredDir(t.Context(), path("old"), exe); got != "" {
		t.Errorf("none was shipped: %q is preferred", got)
	}
	runc("q/libexec/quoin", "1.5.2")
	for name, tc := range map[string]struct{ path, want string }{
		"old":          {path("old"), libexec},
		"empty before": {path("none", "old"), libexec},
		"new":          {path("new", "old"), ""},
		"none":         {path(), ""},
		"first anyway": {libexec + ":" + path("old"), ""},
	} {
		if got := preferredDir(t.Context(), tc.path, exe); got != tc.want {
			t.Errorf("%s: %q is preferred, want %q", name, got, tc.want)
		}
	}
}

func TestAdaptNeedsItsPlugins(t *testing.T) {
	settings := &srvconfig.Config{Plugins: map[string]any{"x.y.z": map[string]any{}}}
	err := adapt(nil, settings)
	if err == nil || !strings.Contains(err.Error(), `"x.y.z", which containerd lacks`) {
		t.Errorf("defaults of a missing plugin: %v", err)
	}
	err = adapt([]plugin.Registration{{Type: "x.y", ID: "z"}}, settings)
	if err == nil || !strings.Contains(err.Error(), `"x.y.z", which containerd lacks`) {
		t.Errorf("defaults of a plugin without settings: %v", err)
	}
	err = adapt(nil, &srvconfig.Config{})
	if err == nil || !strings.Contains(err.Error(), "is to be decorated") {
		t.Errorf("decoration of a missing plugin: %v", err)
	}
}
