// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

const (
	// namespace is where the tests' own containers are; CRI's are in k8s.io.
	namespace  = "vm"
	kubernetes = harness.KubernetesNamespace
	busyboxRef = harness.BusyboxRef
	pauseRef   = harness.PauseRef

	// patience is how long a test waits for what should be immediate: an
	// emulated processor on a busy host is thirty times slower than a real one.
	patience = 90 * time.Second
)

// client and runtime speak to the daemon; connect makes them.
var (
	client  *containerd.Client
	runtime cri.RuntimeServiceClient
)

// connect waits until the daemon serves. The clients connect again by
// themselves when it restarts.
func connect(ctx context.Context) error {
	socket := config.DefaultDaemon().Address
	var err error
	if client, err = containerd.New(socket, containerd.WithDefaultNamespace(namespace), containerd.WithTimeout(patience)); err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	runtime = cri.NewRuntimeServiceClient(connection)
	return awaitServing(ctx)
}

// awaitServing waits until the daemon and its CRI answer.
func awaitServing(ctx context.Context) error {
	if ok, err := client.IsServing(ctx); err != nil || !ok {
		return fmt.Errorf("quoind does not serve: %w", err)
	}
	if _, err := runtime.Version(ctx, &cri.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("CRI does not answer: %w", err)
	}
	return nil
}

// importImages gives both namespaces the busybox and the sandbox image.
func importImages(ctx context.Context) error {
	busybox, err := harness.Busybox()
	if err != nil {
		return err
	}
	pause, err := harness.Pause(busybox)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tagged := map[name.Tag]v1.Image{}
	for ref, image := range map[string]v1.Image{busyboxRef: busybox, pauseRef: pause} {
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		tagged[tag] = image
	}
	archive := filepath.Join(dir, "images.tar")
	if err := tarball.MultiWriteToFile(archive, tagged); err != nil {
		return fmt.Errorf("write the images: %w", err)
	}
	for _, ns := range []string{namespace, kubernetes} {
		if err := command(ctx, "quoinctl", "--namespace", ns, "images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// inNamespace is a context for the tests' own containers that ends with the
// test; after is one that its cleanup can use.
func inNamespace(t *testing.T) context.Context { return withNamespace(t, namespace) }

func withNamespace(t *testing.T, ns string) context.Context {
	return namespaces.WithNamespace(t.Context(), ns)
}

func after() (context.Context, context.CancelFunc) {
	return context.WithTimeout(namespaces.WithNamespace(context.Background(), namespace), patience)
}

// quoinctl runs a command of a user's that has to succeed.
func quoinctl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "quoinctl", append([]string{"--namespace", namespace}, args...)...)
	cmd.WaitDelay = time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("quoinctl %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// systemctl runs a command that has to succeed.
func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually waits until condition returns "".
func eventually(t *testing.T, what string, condition func() string) {
	t.Helper()
	if err := poll(condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// poll is eventually for goroutines that cannot end a test.
func poll(condition func() string) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		last := condition()
		if last == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still not so after %v: %s", patience, last)
		}
		<-tick.C
	}
}

// logOnFailure adds the end of the daemon's log to a test that fails.
func logOnFailure(t *testing.T) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of quoind's log:\n%s", logEnd())
		}
	})
}
