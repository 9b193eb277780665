// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// Inner is a quoind that serves in namespaces of its own.
type Inner struct {
	cri.RuntimeServiceClient
	place  *Place
	pid    int
	client *containerd.Client
}

// patience bounds one step: seconds on a real processor, an emulated one is
// thirty times slower.
const patience = 3 * time.Minute

// Connect waits until the quoind of the place serves and gives it its images.
// pid is the first process of its namespaces.
func (p *Place) Connect(t testing.TB, pid int) *Inner {
	t.Helper()
	i := &Inner{place: p, pid: pid}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the inner quoind's log:\n%s", p.Log())
		}
	})
	connection, err := grpc.NewClient("unix://"+p.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}}))
	if err != nil {
		t.Fatalf("connect to the inner quoind: %v", err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if i.client, err = containerd.NewWithConn(connection); err != nil {
		t.Fatalf("connect to the inner quoind: %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("not within %v", patience))
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := onExit(pid, func() { end(errors.New("its process 1 has exited")) }); err != nil {
		t.Fatal(err)
	}
	if ok, err := i.client.IsServing(ctx); err != nil || !ok {
		t.Fatalf("the inner quoind does not serve: %v (%v)", context.Cause(ctx), err)
	}
	i.RuntimeServiceClient = cri.NewRuntimeServiceClient(connection)
	for _, ns := range []string{namespaces.Default, harness.KubernetesNamespace} {
		i.Shell(t, "quoinctl --namespace "+ns+" images import "+p.images())
	}
	return i
}

// onExit calls f when a process exits, if that is within our patience.
func onExit(pid int, f func()) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	go func() {
		defer unix.Close(fd)
		exit := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(exit, int(patience.Milliseconds()))
		for err == unix.EINTR { // Go has signals of its own
			n, err = unix.Poll(exit, int(patience.Milliseconds()))
		}
		if n > 0 && err == nil {
			f()
		}
	}()
	return nil
}

// command is a shell in the namespaces of the inner quoind. It is in none of
// their cgroups.
func (i *Inner) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(i.pid), "--all",
		"/bin/sh", "-c", "PATH="+i.place.path()+"; export PATH; "+script)
	cmd.WaitDelay = time.Second
	return cmd
}

// Shell runs a script that must succeed in the namespaces and returns what it
// prints.
func (i *Inner) Shell(t testing.TB, script string) string {
	t.Helper()
	out, stderr, err := i.Try(t, script)
	if err != nil {
		t.Fatalf("inside, %s: %v\n%s%s", script, err, out, stderr)
	}
	return out
}

// Try is Shell for a script that may fail; it returns standard error too.
func (i *Inner) Try(t testing.TB, script string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := i.command(ctx, script)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), strings.TrimSpace(said.String()), err
}

// Driver is what the inner quoind's cgroup driver plugin exports.
func (i *Inner) Driver(t testing.TB) map[string]string {
	t.Helper()
	plugins, err := i.client.IntrospectionService().Plugins(t.Context(), "type==io.quoin.node.v1,id==cgroupdriver")
	if err != nil || len(plugins.Plugins) != 1 {
		t.Fatalf("the plugin of the cgroup driver: %v, %v", plugins, err)
	}
	return plugins.Plugins[0].Exports
}

// CgroupDriver is what the inner quoind tells a kubelet.
func (i *Inner) CgroupDriver(t testing.TB) cri.CgroupDriver {
	t.Helper()
	answer, err := i.RuntimeConfig(t.Context(), &cri.RuntimeConfigRequest{})
	if err != nil {
		t.Fatalf("ask the inner quoind for its configuration: %v", err)
	}
	return answer.GetLinux().GetCgroupDriver()
}
