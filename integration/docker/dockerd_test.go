// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(harness.Dockerd, harness.Docker, harness.OldContainerd, harness.DebianRunc)...))
}

// engine is a dockerd of the test's own.
type engine struct {
	socket string
	log    *harness.Output
}

// runtime is the one name of a shim that Docker Engine 20.10 takes; others it
// refuses as "Unknown runtime specified" (since 23.0 it takes them all). So the
// shim under test stands in for it under its name.
const runtime = "io.containerd.runc.v2"

// shadow is a directory in which the shim has the name that containerd looks
// for.
func shadow(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(harness.Base(), "shadow")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if harness.Reference() {
		return dir
	}
	if err := os.Symlink(harness.Shim.Path(), filepath.Join(dir, "containerd-shim-runc-v2")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start starts a dockerd, which starts its containerd, and loads busybox into
// it. Both end with the test.
func start(t *testing.T) *engine {
	t.Helper()
	dir := filepath.Join(harness.Base(), "docker")
	run := "/run/engine"
	e := &engine{socket: filepath.Join(run, "docker.sock"), log: &harness.Output{}}
	cmd := exec.Command(harness.Dockerd.Path(),
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(run, "exec"), "--pidfile", filepath.Join(run, "pid"),
		"--host", "unix://"+e.socket, "--cgroup-parent", "/"+harness.Token()+"-docker", "--config-file", filepath.Join(dir, "none.json"), "--debug")
	// All but the shim is Debian's, its runc 1.1.5 too.
	cmd.Env = append(os.Environ(), "PATH="+shadow(t)+":/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdout, cmd.Stderr = e.log, e.log
	if err := os.MkdirAll(run, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "none.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start dockerd: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stop dockerd: %v", err)
		}
		select {
		case <-done:
		case <-time.After(harness.Patience):
			t.Errorf("dockerd does not stop")
			_ = cmd.Process.Kill() // its namespaces end with the package
			<-done
		}
		if t.Failed() {
			lines := strings.Split(e.log.String(), "\n")
			t.Logf("dockerd said:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	harness.Eventually(t, "dockerd answers", func() string {
		if r := harness.Run(t, harness.Docker.Path(), "--host", "unix://"+e.socket, "version"); r.Code != 0 {
			return r.Stderr
		}
		return ""
	})
	busybox, err := harness.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	e.must(t, "load", "--input", harness.Archive(t, map[string]v1.Image{harness.BusyboxRef: busybox}))
	return e
}

func (e *engine) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return harness.Command(t, harness.Docker.Path(), append([]string{"--host", "unix://" + e.socket}, args...)...)
}

func (e *engine) docker(t *testing.T, args ...string) harness.Result {
	t.Helper()
	return harness.Run(t, harness.Docker.Path(), append([]string{"--host", "unix://" + e.socket}, args...)...)
}

// must runs docker and returns its output without the last newline.
func (e *engine) must(t *testing.T, args ...string) string {
	t.Helper()
	r := e.docker(t, args...)
	if r.Code != 0 {
		t.Fatalf("docker %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// run starts a container in the background.
func (e *engine) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	t.Cleanup(func() { e.remove(t, name) })
	return e.must(t, append([]string{"run", "--detach", "--runtime", runtime, "--name", name, harness.BusyboxRef}, args...)...)
}

// remove removes a container at the end of its test, when the test's context
// has ended.
func (e *engine) remove(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command(harness.Docker.Path(), "--host", "unix://"+e.socket, "rm", "--force", name).CombinedOutput(); err != nil {
		t.Errorf("docker rm --force %s: %v: %s", name, err, out)
	}
}
