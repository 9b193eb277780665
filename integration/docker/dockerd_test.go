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
	os.Exit(harness.Main(m, harness.Core(harness.StockD, harness.DebianRunc,
		harness.Dockerd, harness.Docker, harness.OldContainerd, currentDockerd, currentDocker)...))
}

// engine is a dockerd of the test's own and the docker command that belongs to
// it.
type engine struct {
	// daemon and cli are the programs, args the daemon's arguments beside its
	// socket, path its PATH.
	daemon, cli harness.Part
	args        []string
	path        string
	// runtime is what containers are asked to run with, shim the program that
	// has to come of it.
	runtime, shim string
	socket        string

	log  *harness.Output
	cmd  *exec.Cmd
	done chan struct{} // closed once cmd has been waited for
}

// start starts dockerd and loads busybox into it. It ends with the test.
func (e *engine) start(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(e.socket), 0o711); err != nil {
		t.Fatal(err)
	}
	e.log = &harness.Output{}
	t.Cleanup(func() {
		e.stop(t, syscall.SIGTERM)
		if t.Failed() {
			lines := strings.Split(e.log.String(), "\n")
			t.Logf("dockerd said:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	e.launch(t)
	busybox, err := harness.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	e.must(t, "load", "--input", harness.Archive(t, map[string]v1.Image{harness.BusyboxRef: busybox}))
}

// launch starts the process and waits until it answers.
func (e *engine) launch(t *testing.T) {
	t.Helper()
	cmd := exec.Command(e.daemon.Path(), append([]string{"--host", "unix://" + e.socket, "--debug"}, e.args...)...)
	cmd.Env = append(os.Environ(), "PATH="+e.path)
	cmd.Stdout, cmd.Stderr = e.log, e.log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", e.daemon.Name, err)
	}
	done := make(chan struct{})
	e.cmd, e.done = cmd, done
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}()
	harness.Eventually(t, "dockerd answers", func() string {
		select {
		case <-done:
			t.Fatalf("%s exited instead of serving", e.daemon.Name)
		default:
		}
		if r := e.docker(t, "version"); r.Code != 0 {
			return r.Stderr
		}
		return ""
	})
}

// stop sends dockerd a signal that ends it, and waits for that.
func (e *engine) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if e.cmd == nil {
		return
	}
	if err := e.cmd.Process.Signal(signal); err != nil {
		t.Errorf("stop dockerd: %v", err)
	}
	select {
	case <-e.done:
	case <-time.After(harness.Patience):
		t.Errorf("dockerd does not stop")
		_ = e.cmd.Process.Kill() // its namespaces end with the package
		<-e.done
	}
	e.cmd = nil
}

func (e *engine) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return harness.Command(t, e.cli.Path(), append([]string{"--host", "unix://" + e.socket}, args...)...)
}

func (e *engine) docker(t *testing.T, args ...string) harness.Result {
	t.Helper()
	return harness.Run(t, e.cli.Path(), append([]string{"--host", "unix://" + e.socket}, args...)...)
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

// run starts a container in the background, with the engine's runtime.
func (e *engine) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return e.runWith(t, []string{"--runtime", e.runtime}, name, args...)
}

// runWith starts a container in the background with options of docker run.
func (e *engine) runWith(t *testing.T, options []string, name string, args ...string) string {
	t.Helper()
	t.Cleanup(func() { e.remove(t, name) })
	line := append([]string{"run", "--detach", "--name", name}, options...)
	return e.must(t, append(append(line, harness.BusyboxRef), args...)...)
}

// remove removes a container at the end of its test, when the test's context
// has ended.
func (e *engine) remove(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command(e.cli.Path(), "--host", "unix://"+e.socket, "rm", "--force", name).CombinedOutput(); err != nil {
		t.Errorf("docker rm --force %s: %v: %s", name, err, out)
	}
}
