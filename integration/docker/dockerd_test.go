// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"fmt"
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

func TestDocker(t *testing.T) {
	e := start(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *engine)
	}{
		{"run", testRun},
		{"errors", testErrors},
		{"exec", testExec},
		{"logs", testLogs},
		{"stop", testStop},
		{"terminal", testTerminal},
		{"pause", testPause},
		{"restart policy", testRestartPolicy},
		{"stats and top", testStats},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, e) })
	}
	if out := e.must(t, "ps", "--all", "--quiet"); out != "" {
		t.Errorf("containers are left: %s", out)
	}
	harness.Eventually(t, "no shim is left", func() string {
		var left []string
		for _, p := range harness.Processes() {
			if strings.Contains(p.Name, "containerd-shim") {
				left = append(left, p.String())
			}
		}
		return strings.Join(left, "\n")
	})
}

func testRun(t *testing.T, e *engine) {
	r := e.docker(t, "run", "--rm", "--runtime", runtime, harness.BusyboxRef, "sh", "-c", "echo out; echo err >&2; exit 19")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 19 {
		t.Errorf("got (%q, %q, %d)", r.Stdout, r.Stderr, r.Code)
	}
	cmd := e.command(t, "run", "--rm", "--interactive", "--runtime", runtime, harness.BusyboxRef, "wc", "-c")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 100_000))
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "100000" {
		t.Errorf("stdin: %q, %v", out, err)
	}
	name := "inspected"
	e.run(t, name, "sleep", "1000")
	if got := e.must(t, "inspect", "--format", "{{.HostConfig.Runtime}} {{.State.Status}}", name); got != runtime+" running" {
		t.Errorf("inspect says %q", got)
	}
	shims := harness.Shims(e.must(t, "inspect", "--format", "{{.Id}}", name))
	if len(shims) != 1 {
		t.Fatalf("the container's shims:\n%s", harness.Describe(shims))
	}
	want := harness.Shim.Path()
	if harness.Reference() {
		want = "/usr/bin/containerd-shim-runc-v2"
	}
	if got, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", shims[0].PID)); err != nil || got != want {
		t.Errorf("the shim is %s, %v; want %s", got, err, want)
	}
}

// testErrors: docker turns these words into its exit codes 126 and 127.
func testErrors(t *testing.T, e *engine) {
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"no-such-command", 127, "executable file not found in $PATH"},
		{"/no/such", 127, "no such file or directory"},
		{"/plain", 126, "permission denied"},
	} {
		r := e.docker(t, "run", "--rm", "--runtime", runtime, harness.BusyboxRef, tc.args)
		if r.Code != tc.code || !strings.Contains(r.Stderr, tc.want) {
			t.Errorf("%s: exit code %d, stderr %q; want %d and %q", tc.args, r.Code, r.Stderr, tc.code, tc.want)
		}
	}
}

func testExec(t *testing.T, e *engine) {
	e.run(t, "executed", "sleep", "1000")
	r := e.docker(t, "exec", "executed", "sh", "-c", "echo out; echo err >&2; exit 23")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 23 {
		t.Errorf("got (%q, %q, %d)", r.Stdout, r.Stderr, r.Code)
	}
	if r := e.docker(t, "exec", "executed", "no-such-command"); r.Code != 126 && r.Code != 127 {
		t.Errorf("exec of an absent command: exit code %d, %q %q", r.Code, r.Stdout, r.Stderr)
	}
	term := harness.Open(t, e.command(t, "exec", "--interactive", "--tty", "executed", "sh"), 88, 26)
	term.Type(t, "tty; echo in''side\n")
	term.Output.Await(t, "inside")
	term.Type(t, "exit 24\n")
	if code := term.AwaitExit(t); code != 24 {
		t.Errorf("exec with a terminal: exit code %d", code)
	}
}

func testLogs(t *testing.T, e *engine) {
	e.run(t, "logged", "sh", "-c", "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; echo last >&2")
	if got := e.must(t, "wait", "logged"); got != "0" {
		t.Errorf("wait says %s", got)
	}
	r := e.docker(t, "logs", "logged")
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if r.Stdout != want.String() || r.Stderr != "last\n" {
		t.Errorf("logs: %d bytes instead of %d, stderr %q", len(r.Stdout), want.Len(), r.Stderr)
	}
}

func testStop(t *testing.T, e *engine) {
	e.run(t, "stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 1000 & wait $!; done")
	began := time.Now()
	e.must(t, "stop", "--time", "1", "stubborn")
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("stop --time 1 took %v", took)
	}
	if got := e.must(t, "inspect", "--format", "{{.State.ExitCode}}", "stubborn"); got != "137" {
		t.Errorf("exit code %s, want 137", got)
	}
	e.run(t, "polite", "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
	harness.Eventually(t, "the trap is set", func() string {
		if out := e.must(t, "logs", "polite"); out != "ready" {
			return out
		}
		return ""
	})
	e.must(t, "stop", "--time", "20", "polite")
	if got := e.must(t, "inspect", "--format", "{{.State.ExitCode}}", "polite"); got != "7" {
		t.Errorf("exit code %s, want 7", got)
	}
	e.must(t, "start", "polite")
	e.must(t, "kill", "polite")
}

func testTerminal(t *testing.T, e *engine) {
	cmd := e.command(t, "run", "--rm", "--interactive", "--tty", "--runtime", runtime, harness.BusyboxRef, "sh")
	term := harness.Open(t, cmd, 97, 33)
	harness.Eventually(t, "the container sees the terminal's size", func() string {
		term.Type(t, "stty size\n")
		if got := term.Output.String(); !strings.Contains(got, "33 97") {
			return got
		}
		return ""
	})
	term.Type(t, "exit 11\n")
	if code := term.AwaitExit(t); code != 11 {
		t.Errorf("exit code %d, want 11", code)
	}
}

func testPause(t *testing.T, e *engine) {
	e.run(t, "paused", "sleep", "1000")
	e.must(t, "pause", "paused")
	if got := e.must(t, "inspect", "--format", "{{.State.Status}}", "paused"); got != "paused" {
		t.Errorf("the container is %s", got)
	}
	e.must(t, "unpause", "paused")
	e.must(t, "update", "--memory", "64m", "--memory-swap", "64m", "paused")
	if got := e.must(t, "exec", "paused", "cat", "/proc/1/comm"); got != "sleep" {
		t.Errorf("after unpause: %q", got)
	}
}

func testRestartPolicy(t *testing.T, e *engine) {
	t.Cleanup(func() { e.remove(t, "again") })
	e.must(t, "run", "--detach", "--runtime", runtime, "--restart", "on-failure:2", "--name", "again", harness.BusyboxRef, "sh", "-c", "echo round; exit 3")
	harness.Eventually(t, "docker has restarted it twice", func() string {
		got := e.must(t, "inspect", "--format", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "again")
		if got != "2 exited 3" {
			return got
		}
		return ""
	})
	if got := e.must(t, "logs", "again"); got != "round\nround\nround" {
		t.Errorf("logs %q", got)
	}
}

func testStats(t *testing.T, e *engine) {
	e.run(t, "measured", "sleep", "1000")
	if got := e.must(t, "stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "measured"); got != "measured 1" {
		t.Errorf("stats say %q", got)
	}
	if got := e.must(t, "top", "measured"); !strings.Contains(got, "sleep 1000") {
		t.Errorf("top says %q", got)
	}
}
