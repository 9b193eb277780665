// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// shadow is a directory in which the shim has the name that containerd looks
// for.
func shadow(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if harness.Reference() {
		return dir
	}
	if err := os.Symlink(harness.Shim.Path(), filepath.Join(dir, "containerd-shim-runc-v2")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// debian starts Debian's dockerd, which starts its containerd. Docker Engine
// 20.10 takes one name of a shim and refuses others as "Unknown runtime
// specified" (since 23.0 it takes them all). So the shim under test stands in
// for it under its name. All but the shim is Debian's, its runc 1.1.5 too.
func debian(t *testing.T) *engine {
	t.Helper()
	dir, run := filepath.Join(harness.Base(), "docker"), "/run/engine"
	none := emptyConfig(t)
	e := &engine{
		daemon: harness.Dockerd, cli: harness.Docker,
		args: []string{
			"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(run, "exec"), "--pidfile", filepath.Join(run, "pid"),
			"--cgroup-parent", "/" + harness.Token() + "-docker", "--config-file", none,
		},
		path:    shadow(t) + ":/usr/sbin:/usr/bin:/sbin:/bin",
		runtime: "io.containerd.runc.v2",
		shim:    harness.Shim.Path(),
		socket:  filepath.Join(run, "docker.sock"),
	}
	if harness.Reference() {
		e.shim = "/usr/bin/containerd-shim-runc-v2"
	}
	e.start(t)
	return e
}

// emptyConfig is a daemon.json that keeps dockerd from the machine's own.
func emptyConfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "none.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDocker(t *testing.T) {
	e := debian(t)
	commands(t, e)
	nothingLeft(t, e)
}
