// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// PauseRef is the sandbox image: a shell that reaps and ends on SIGTERM.
	PauseRef = "quoin.test/pause:1"
	// KubernetesNamespace is the containerd namespace of CRI.
	KubernetesNamespace = "k8s.io"
)

// Pause makes the sandbox image of the busybox image.
func Pause(busybox v1.Image) (v1.Image, error) {
	return Image(busybox, nil, v1.Config{
		Entrypoint: []string{"sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 1000 & wait $!; done"},
		Env:        []string{"PATH=/bin"},
	})
}

// Node is a daemon seen through CRI.
type Node struct {
	*Daemon
	cri.RuntimeServiceClient
	Images cri.ImageServiceClient
}

// bridgeNetwork is what a small node has: a bridge, addresses of the host's
// own, and forwarded host ports.
const bridgeNetwork = `{
  "cniVersion": "1.0.0",
  "name": "quoin-test",
  "plugins": [
    {"type": "bridge", "bridge": "quoin0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.213.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}`

// SharedNode returns the package's CRI daemon, with the busybox and the
// sandbox image in it.
func SharedNode(t testing.TB, spec Spec) *Node {
	t.Helper()
	return NewNode(t, Shared(t, CRISpec(t, spec)))
}

// CRISpec completes a spec with what CRI needs and writes the files for it.
func CRISpec(t testing.TB, spec Spec) Spec {
	t.Helper()
	spec.Name = spec.name() + "-cri"
	networks := filepath.Join(Base(), spec.Name+"-cni")
	registries := filepath.Join(Base(), spec.Name+"-certs.d")
	for _, dir := range []string{networks, registries} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(networks, "10-bridge.conflist"), []byte(bridgeNetwork), 0o644); err != nil {
		t.Fatal(err)
	}
	spec.CRI = &CRI{SandboxImage: PauseRef, NetworkConfigDir: networks, RegistryConfigDir: registries}
	return spec
}

// NewNode connects to a daemon's CRI and gives it the images.
func NewNode(t testing.TB, d *Daemon) *Node {
	t.Helper()
	connection, err := grpc.NewClient("unix://"+d.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("connect to %s: %v", d.Address, err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	n := &Node{Daemon: d, RuntimeServiceClient: cri.NewRuntimeServiceClient(connection), Images: cri.NewImageServiceClient(connection)}
	busybox, err := Busybox()
	if err != nil {
		t.Fatalf("build the busybox image: %v", err)
	}
	pause, err := Pause(busybox)
	if err != nil {
		t.Fatalf("build the sandbox image: %v", err)
	}
	d.importing.Lock()
	defer d.importing.Unlock()
	for ref, image := range map[string]v1.Image{BusyboxRef: busybox, PauseRef: pause} {
		if n.hasImage(t.Context(), ref) {
			continue
		}
		d.Import(t, KubernetesNamespace, ref, image)
		// CRI learns of the image by an event.
		Eventually(t, "CRI knows "+ref, func() string {
			if !n.hasImage(t.Context(), ref) {
				return "not yet"
			}
			return ""
		})
	}
	return n
}

func (n *Node) hasImage(ctx context.Context, ref string) bool {
	status, err := n.Images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: ref}})
	return err == nil && status.Image != nil
}

// Pod is a running pod sandbox.
type Pod struct {
	ID     string
	Config *cri.PodSandboxConfig

	node *Node
}

// RunPod runs a pod and removes it, with all that is in it, at the test's end.
// Change alters the configuration before.
func (n *Node) RunPod(t testing.TB, name string, change ...func(*cri.PodSandboxConfig)) *Pod {
	t.Helper()
	uid := ID(t, name)
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "test", Uid: uid},
		Hostname:     "host-" + strings.ToLower(name),
		LogDirectory: filepath.Join(t.TempDir(), name),
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.213.0.1"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    "/" + Token() + "-pods/" + uid,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}
	for _, f := range change {
		f(config)
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	response, err := n.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatalf("run the pod %s: %v", name, err)
	}
	p := &Pod{ID: response.PodSandboxId, Config: config, node: n}
	t.Cleanup(func() { p.remove(t) })
	return p
}

// remove stops and removes the pod, then the cgroup that kubelet would have
// made for it: the runtime removes only the containers' own.
func (p *Pod) remove(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := p.node.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.ID}); err != nil {
		t.Errorf("stop the pod %s: %v", p.Config.Metadata.Name, err)
	}
	if _, err := p.node.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.ID}); err != nil {
		t.Errorf("remove the pod %s: %v", p.Config.Metadata.Name, err)
	}
	pattern := filepath.Join(cgroupRoot, "*", p.Config.Linux.CgroupParent)
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		t.Errorf("%s: %v", pattern, err)
	}
	for _, dir := range dirs {
		last := poll(leftoverPatience, func() string {
			if err := os.Remove(dir); err != nil {
				return err.Error()
			}
			return ""
		})
		if last != "" {
			t.Errorf("a container left its cgroup in the pod's: %s", last)
		}
	}
}

// Status is the pod's status.
func (p *Pod) Status(t testing.TB) *cri.PodSandboxStatus {
	t.Helper()
	response, err := p.node.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.ID})
	if err != nil {
		t.Fatalf("status of the pod %s: %v", p.Config.Metadata.Name, err)
	}
	return response.Status
}

// Member is a container of a pod.
type Member struct {
	ID  string
	Pod *Pod
	// Log is the container's log file.
	Log string
}

// Request asks for a busybox container in the pod.
func (p *Pod) Request(name string, args ...string) *cri.CreateContainerRequest {
	return &cri.CreateContainerRequest{PodSandboxId: p.ID, SandboxConfig: p.Config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: BusyboxRef},
		Command:  args,
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{},
			SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: p.Config.Linux.SecurityContext.NamespaceOptions},
		},
	}}
}

// CreateContainer creates a busybox container in the pod.
func (p *Pod) CreateContainer(t testing.TB, name string, args []string, change ...func(*cri.ContainerConfig)) *Member {
	t.Helper()
	request := p.Request(name, args...)
	for _, f := range change {
		f(request.Config)
	}
	response, err := p.node.CreateContainer(t.Context(), request)
	if err != nil {
		t.Fatalf("create the container %s: %v", name, err)
	}
	return &Member{ID: response.ContainerId, Pod: p, Log: filepath.Join(p.Config.LogDirectory, request.Config.LogPath)}
}

// Run creates and starts a container in the pod.
func (p *Pod) Run(t testing.TB, name string, args []string, change ...func(*cri.ContainerConfig)) *Member {
	t.Helper()
	m := p.CreateContainer(t, name, args, change...)
	if _, err := p.node.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: m.ID}); err != nil {
		t.Fatalf("start the container %s: %v", name, err)
	}
	return m
}

// Status is the container's status.
func (m *Member) Status(t testing.TB) *cri.ContainerStatus {
	t.Helper()
	response, err := m.Pod.node.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: m.ID})
	if err != nil {
		t.Fatalf("status of the container %s: %v", m.ID, err)
	}
	return response.Status
}

// AwaitExit waits until the container has exited and returns its status.
func (m *Member) AwaitExit(t testing.TB) *cri.ContainerStatus {
	t.Helper()
	Eventually(t, "the container exits", func() string {
		if s := m.Status(t); s.State != cri.ContainerState_CONTAINER_EXITED {
			return s.State.String()
		}
		return ""
	})
	return m.Status(t)
}

// ExecSync runs a command in the container.
func (m *Member) ExecSync(t testing.TB, args ...string) *cri.ExecSyncResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience+10*time.Second)
	defer cancel()
	response, err := m.Pod.node.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: m.ID, Cmd: args, Timeout: int64(Patience.Seconds())})
	if err != nil {
		t.Fatalf("exec %q: %v", args, err)
	}
	return response
}

// Shell runs a shell script in the container that must succeed, and returns
// its output without the last newline.
func (m *Member) Shell(t testing.TB, script string) string {
	t.Helper()
	r := m.ExecSync(t, "sh", "-c", script)
	if r.ExitCode != 0 {
		t.Fatalf("%s: exit code %d, stdout %q, stderr %q", script, r.ExitCode, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(string(r.Stdout), "\n")
}
