// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/quoin-io/quoin/config"
)

func TestDefaults(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"--help", config.DefaultDaemon().Address},
		{"run --help", config.RuntimeType},
		{"containers create --help", config.RuntimeType},
		{"sandboxes run --help", config.RuntimeType},
		{"--version", config.Version},
	} {
		stdout, stderr, err := quoinctl(t, nil, strings.Fields(tc.args)...)
		if err != nil || !strings.Contains(stdout, tc.want) {
			t.Errorf("%s: error %v, no %q in:\n%s%s", tc.args, err, tc.want, stdout, stderr)
		}
	}
}

func TestAddress(t *testing.T) {
	env := []string{"CONTAINERD_ADDRESS=/none/env.sock"}
	for _, tc := range []struct {
		env  []string
		args []string
		want string
	}{
		{nil, nil, config.DefaultDaemon().Address},
		{env, nil, "/none/env.sock"},
		{env, []string{"--address", "/none/flag.sock"}, "/none/flag.sock"},
	} {
		_, stderr, err := quoinctl(t, tc.env, append(tc.args, "images", "ls")...)
		if err == nil && tc.want != config.DefaultDaemon().Address {
			t.Errorf("%v %v: no error", tc.env, tc.args)
		}
		if err != nil && !strings.Contains(stderr, tc.want) {
			t.Errorf("%v %v: %q does not name %s", tc.env, tc.args, stderr, tc.want)
		}
	}
}

// Every command of ctr's is there, with its flags, and one of our own.
func TestHasAllOfCtr(t *testing.T) {
	collect := func(root *cli.Command) map[string]int {
		got := map[string]int{}
		var visit func(prefix string, cmd *cli.Command)
		visit = func(prefix string, cmd *cli.Command) {
			for _, sub := range cmd.Commands {
				got[prefix+" "+sub.Name] = len(sub.Flags)
				visit(prefix+" "+sub.Name, sub)
			}
		}
		visit("", root)
		return got
	}
	want := collect(app.New())
	want[" doctor"] = 1
	want[" shims"], want[" shims list"], want[" shims upgrade"] = 0, 5, 7
	if diff := cmp.Diff(want, collect(App())); diff != "" {
		t.Errorf("commands and their numbers of flags (-ctr +quoinctl):\n%s", diff)
	}
}

func TestWrapsCommandsThatExist(t *testing.T) {
	root := app.New()
	for _, path := range [][]string{{"run"}, {"containers", "create"}, {"shim"}} {
		if find(root, path...).Name != path[len(path)-1] {
			t.Errorf("ctr has no command %q any more", path)
		}
	}
}

func TestCompletion(t *testing.T) {
	stdout, stderr, err := quoinctl(t, nil, "--generate-shell-completion")
	if err != nil || !strings.Contains(stdout, "containers") {
		t.Errorf("error %v: %s%s", err, stdout, stderr)
	}
}

// A container created with runc's options carries them, under Quoin's name.
func TestRuncOptions(t *testing.T) {
	d, socket := serveFake(t)
	rootfs := t.TempDir()
	for _, tc := range []struct {
		name, runtime string
		flags         []string
		want          *runcoptions.Options
	}{
		{"binary", "", []string{"--runc-binary", "crun"}, &runcoptions.Options{BinaryName: "crun"}},
		{"root", "", []string{"--runc-root", "/r"}, &runcoptions.Options{Root: "/r"}},
		{"systemd", "", []string{"--runc-binary", "crun", "--runc-systemd-cgroup", "--cgroup", "a.slice:b:c"},
			&runcoptions.Options{BinaryName: "crun", SystemdCgroup: true}},
		{"path", "/opt/" + config.ShimBinary, []string{"--runc-binary", "crun"}, &runcoptions.Options{BinaryName: "crun"}},
		{"none", "", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := []string{"--address", socket, "--namespace", "ns", "run", "--detach", "--null-io", "--rootfs"}
			runtime := config.RuntimeType
			if tc.runtime != "" {
				runtime = tc.runtime
				args = append(args, "--runtime", runtime)
			}
			_, stderr, err := quoinctl(t, nil, append(append(args, tc.flags...), rootfs, tc.name, "/bin/true")...)
			if err != nil {
				t.Fatalf("%v: %s", err, stderr)
			}
			got := d.runtimeOf(tc.name)
			if got.GetName() != runtime {
				t.Errorf("runtime %q, want %q", got.GetName(), runtime)
			}
			if tc.want == nil {
				if got.GetOptions() != nil {
					t.Errorf("options %v, want none", got.GetOptions())
				}
				return
			}
			var options runcoptions.Options
			if err := proto.Unmarshal(got.GetOptions().GetValue(), &options); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, &options, protocmp.Transform()); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
			if got.GetOptions().GetTypeUrl() != "containerd.runc.v1.Options" {
				t.Errorf("options of type %q", got.GetOptions().GetTypeUrl())
			}
		})
	}
	namespaces, _ := d.seen()
	for _, namespace := range namespaces {
		if namespace != "ns" {
			t.Errorf("created in namespace %q, want ns", namespace)
		}
	}
}

func TestCreateWithRuncOptions(t *testing.T) {
	d, socket := serveFake(t)
	_, stderr, err := quoinctl(t, nil, "--address", socket, "containers", "create", "--runc-binary", "crun", "--rootfs", t.TempDir(), "c", "/bin/true")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if got := d.runtimeOf("c"); got.GetName() != config.RuntimeType || got.GetOptions() == nil {
		t.Errorf("runtime %v", got)
	}
}

// In the foreground it ends with the container's exit code and leaves nothing.
func TestRunEndsAsTheContainerDid(t *testing.T) {
	d, socket := serveFake(t)
	dir := t.TempDir()
	_, stderr, err := quoinctl(t, nil, "--address", socket, "run", "--rm", "--null-io", "--runc-binary", "crun",
		"--pid-file", dir+"/pid", "--dump-config", dir+"/spec.json", "--rootfs", dir, "c", "/bin/true")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 9 {
		t.Errorf("error %v, want exit code 9; stderr %s", err, stderr)
	}
	_, deleted := d.seen()
	if diff := cmp.Diff([]string{"c"}, deleted); diff != "" {
		t.Errorf("deleted containers (-want +got):\n%s", diff)
	}
	if pid, err := os.ReadFile(dir + "/pid"); string(pid) != "4242" {
		t.Errorf("pid file %q, %v", pid, err)
	}
	if spec, err := os.ReadFile(dir + "/spec.json"); !strings.Contains(string(spec), "ociVersion") {
		t.Errorf("dumped spec %q, %v", spec, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"run --runc-binary crun --runtime io.containerd.other.v1 --rootfs img id", "only supported for"},
		{"run --runc-binary crun --runtime-config-path /x img id", "cannot be combined"},
		{"run --runc-binary crun img", "an image ref and a container id"},
		{"run --runc-binary crun --config /x id more", "and nothing else"},
		{"run --runc-binary crun --rm --detach img id", "--detach and --rm"},
		{"containers create --runc-binary crun img", "an image ref and a container id"},
		{"run --runc-systemd-cgroup --rootfs img id", "requires --cgroup"},
	} {
		_, socket := serveFake(t)
		args := append([]string{"--address", socket}, strings.Fields(tc.args)...)
		_, stderr, err := quoinctl(t, nil, args...)
		if err == nil || !strings.Contains(stderr, tc.want) {
			t.Errorf("%s: error %v, stderr %q, want %q", tc.args, err, stderr, tc.want)
		}
	}
}

func TestShimAddressFromTheBundle(t *testing.T) {
	state, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	bundle := filepath.Join(state, "io.containerd.runtime.v2.task", "ns", "c")
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bundle, "bootstrap.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"version":3,"address":"unix:///run/x","protocol":"ttrpc"}`)
	if got, err := bootstrapAddress(state, "ns", "c"); err != nil || got != "unix:///run/x" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := bootstrapAddress(state, "ns", "other"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v for a container that is not there", err)
	}
	for _, bad := range []string{"", "{}", "[]", `{"address":""}`} {
		write(bad)
		if _, err := bootstrapAddress(state, "ns", "c"); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}

	// And through the command: it dials what the bundle says.
	socket := filepath.Join(state, "shim.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed := make(chan struct{})
	go func() {
		if conn, err := listener.Accept(); err == nil {
			conn.Close()
			close(dialed)
		}
	}()
	write(`{"version":3,"address":"unix://` + socket + `","protocol":"ttrpc"}`)
	_, stderr, _ := quoinctl(t, nil, "--address", filepath.Join(state, "quoind.sock"), "--namespace", "ns", "shim", "--id", "c", "state")
	select {
	case <-dialed:
	default:
		t.Errorf("the shim's socket was not dialed: %s", stderr)
	}
}
