// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quoin-io/quoin/integration/harness"
)

// The Engine and the command line that `make stock` builds.
var (
	currentDockerd = built("dockerd")
	currentDocker  = built("docker")
)

func built(name string) harness.Part {
	return harness.Part{Name: "the current " + name, Path: func() string { return filepath.Join(harness.StockDir(), name) }}
}

// current starts a current dockerd on the containerd d, with the daemon.json
// at settings.
func current(t *testing.T, d *harness.Daemon, settings string) *engine {
	t.Helper()
	run := filepath.Join("/run", "docker-"+d.Name)
	e := &engine{
		daemon: currentDockerd, cli: currentDocker,
		args: []string{
			"--data-root", filepath.Join(harness.Base(), "docker-"+d.Name), "--exec-root", filepath.Join(run, "exec"), "--pidfile", filepath.Join(run, "pid"),
			"--cgroup-parent", "/" + harness.Token() + "-docker-" + d.Name, "--config-file", settings,
			"--containerd", d.Address, "--containerd-namespace", d.Namespace, "--containerd-plugins-namespace", d.Namespace + "-plugins",
			"--userland-proxy=false", "--live-restore",
		},
		path:    harness.BinDir() + ":/usr/sbin:/usr/bin:/sbin:/bin",
		runtime: d.Runtime,
		shim:    harness.Shim.Path(),
		socket:  filepath.Join(run, "docker.sock"),
	}
	if harness.Reference() {
		e.shim = harness.StockShim.Path()
	}
	e.start(t)
	return e
}

// TestCurrentDocker: the runtime type by its own name, as users of Docker
// Engine 23 and later type it.
func TestCurrentDocker(t *testing.T) {
	for _, spec := range harness.Both() {
		t.Run(string(spec.Kind), func(t *testing.T) {
			d := harness.Start(t, spec)
			settings := emptyConfig(t)
			more := []command{{"resize", testResize}}
			if !harness.Reference() {
				settings = shipped(t)
				more = append(more, command{"daemon.json", testSettings}, command{"options", func(t *testing.T, e *engine) {
					testOptions(t, e, d, settings)
				}})
			}
			e := current(t, d, settings)
			commands(t, e, more...)
			t.Run("live restore", func(t *testing.T) { testLiveRestore(t, e) })
			nothingLeft(t, e)
		})
	}
}

// shipped is a copy of the daemon.json that is installed for users.
func shipped(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../config/docker-daemon.json")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// testSettings: what the shipped daemon.json promises, a runtime of a short
// name that is the default.
func testSettings(t *testing.T, e *engine) {
	for name, options := range map[string][]string{"by-default": nil, "by-name": {"--runtime", "quoin"}} {
		e.runWith(t, options, name, "sleep", "1000")
		if got := e.must(t, "inspect", "--format", "{{.HostConfig.Runtime}}", name); got != "quoin" {
			t.Errorf("%s: the runtime is %q, want quoin", name, got)
		}
		e.checkShim(t, name)
	}
	if got := e.must(t, "info", "--format", "{{.DefaultRuntime}}"); got != "quoin" {
		t.Errorf("docker info says that the default runtime is %q, want quoin", got)
	}
}

// testOptions: the options of a type that is not runc's are in a file, whose
// path is all that dockerd hands on. It reads daemon.json again on SIGHUP.
func testOptions(t *testing.T, e *engine, d *harness.Daemon, settings string) {
	root := filepath.Join("/run", "docker-"+d.Name, "oci")
	file := filepath.Join(t.TempDir(), "options.toml")
	write := func(options string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(options), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.configure(t, settings, "with-file", map[string]any{"ConfigPath": file})

	write(fmt.Sprintf("Root = %q\n", root))
	id := e.runWith(t, []string{"--runtime", "with-file"}, "optioned", "sleep", "1000")
	e.checkShim(t, "optioned")
	if got := e.must(t, "exec", "optioned", "cat", "/proc/1/comm"); got != "sleep" {
		t.Errorf("the container runs %q", got)
	}
	if _, err := os.Stat(filepath.Join(root, d.Namespace, id, "state.json")); err != nil {
		t.Errorf("the option Root has no effect: %v", err)
	}

	for options, want := range map[string]string{
		"BinaryName = '/no/runc'": "/no/runc",
		"Binary = 'crun'":         "BinaryName", // one of the valid ones
	} {
		write(options)
		r := e.docker(t, "run", "--rm", "--runtime", "with-file", harness.BusyboxRef, "true")
		if r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: exit code %d, %q; want an error with %s", options, r.Code, r.Stderr, want)
		}
	}
}

// configure adds a runtime to daemon.json and has dockerd read it.
func (e *engine) configure(t *testing.T, settings, name string, options map[string]any) {
	t.Helper()
	content, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	file["runtimes"].(map[string]any)[name] = map[string]any{"runtimeType": e.runtime, "options": options}
	if content, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(settings, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatalf("tell dockerd of its new settings: %v", err)
	}
	harness.Eventually(t, "dockerd knows the runtime "+name, func() string {
		if got := e.must(t, "info", "--format", "{{json .Runtimes}}"); !strings.Contains(got, name) {
			return got
		}
		return ""
	})
}
