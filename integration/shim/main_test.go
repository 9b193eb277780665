// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Core(harness.DebianRunc)...))
}

// starter is what a daemon says to start a shim.
type starter struct {
	ns, id, bundle string
	daemon         *daemon
	// path is the PATH of the shim; runc of the product if empty.
	path string
	// args come before the action.
	args []string
}

// newStarter makes a bundle for a container.
func newStarter(t *testing.T, args []string, change ...oci.SpecOpts) starter {
	t.Helper()
	id := harness.ID(t)
	return starter{ns: harness.Token(), id: id, daemon: listen(t), bundle: harness.Bundle(t, t.TempDir(), harness.Token(), id, args, change...)}
}

// run executes the shim's binary with an action.
func (s starter) run(t *testing.T, stdin []byte, action string) ([]byte, string, error) {
	t.Helper()
	args := append([]string{"-namespace", s.ns, "-address", "/run/no/containerd.sock", "-publish-binary", "/bin/false", "-id", s.id}, s.args...)
	if action != "" {
		args = append(args, action)
	}
	path := s.path
	if path == "" {
		path = harness.BinDir()
	}
	cmd := exec.Command(harness.Shim.Path(), args...)
	cmd.Dir = s.bundle
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = []string{"PATH=" + path + ":/usr/sbin:/usr/bin:/sbin:/bin", "TTRPC_ADDRESS=" + s.daemon.address}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return stdout.Bytes(), stderr.String(), err
}

// params are the bootstrap parameters of containerd 2.4.
func (s starter) params(t *testing.T, change ...func(*bootapi.BootstrapParams)) []byte {
	t.Helper()
	p := &bootapi.BootstrapParams{
		InstanceID: s.id, Namespace: s.ns, ContainerdVersion: "2.4.2",
		ContainerdTtrpcAddress: s.daemon.address, ContainerdGrpcAddress: "/run/no/containerd.sock",
	}
	for _, f := range change {
		f(p)
	}
	encoded, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// conn is a connection to a shim.
type conn struct {
	starter
	client *ttrpc.Client
	v3     taskv3.TTRPCTaskService
	v2     taskv2.TTRPCTaskService
}

// start starts a shim as containerd 2.4 does and connects to it.
func (s starter) start(t *testing.T, change ...func(*bootapi.BootstrapParams)) *conn {
	t.Helper()
	out, stderr, err := s.run(t, s.params(t, change...), "start")
	if err != nil || stderr != "" {
		t.Fatalf("start: %v, stderr %q; containerd reads both streams, so it must be silent", err, stderr)
	}
	var result bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &result); err != nil {
		t.Fatalf("start answered %q: %v", out, err)
	}
	if result.Version != 3 || result.Protocol != "ttrpc" {
		t.Errorf("start answered %v", &result)
	}
	return s.dial(t, result.Address)
}

// dial connects to a shim's address; the shim is shut down at the test's end.
func (s starter) dial(t *testing.T, address string) *conn {
	t.Helper()
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok || !filepath.IsAbs(path) {
		t.Fatalf("address %q is no path of a socket", address)
	}
	raw, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(raw)
	c := &conn{starter: s, client: client, v3: taskv3.NewTTRPCTaskClient(client), v2: taskv2.NewTTRPCTaskClient(client)}
	t.Cleanup(func() { c.end(t) })
	return c
}

// end removes what is left of the container and shuts the shim down.
func (c *conn) end(t *testing.T) {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), c.ns), harness.Patience)
	defer cancel()
	defer c.client.Close()
	if _, err := c.v3.Kill(ctx, &taskv3.KillRequest{ID: c.id, Signal: 9, All: true}); err == nil {
		_, _ = c.v3.Wait(ctx, &taskv3.WaitRequest{ID: c.id}) // to be deleted next
	}
	_, _ = c.v3.Delete(ctx, &taskv3.DeleteRequest{ID: c.id})     // most tests have deleted it
	_, _ = c.v3.Shutdown(ctx, &taskv3.ShutdownRequest{ID: c.id}) // the answer may not arrive
	harness.Eventually(t, "the shim ends", func() string { return harness.Describe(harness.Shims(c.id)) })
}

// ctx is a request's context.
func (c *conn) ctx(t *testing.T) context.Context {
	return namespaces.WithNamespace(t.Context(), c.ns)
}

// native is an error of the shim as containerd sees it.
func native(err error) error { return errgrpc.ToNative(err) }
