// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is a running pod of CRI's.
type pod struct {
	id     string
	config *cri.PodSandboxConfig
}

// runPod runs a pod in the host's network; parent is the cgroup parent that a
// kubelet would give. It and what the kubelet would make for it are removed at
// the test's end.
func runPod(t *testing.T, name, parent string) *pod {
	t.Helper()
	return runPodBy(t, "", name, parent)
}

// runPodBy does so with a handler that is named.
func runPodBy(t *testing.T, handler, name, parent string) *pod {
	t.Helper()
	namespaces := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}
	p := &pod{config: &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "vm", Uid: name},
		LogDirectory: t.TempDir(),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    parent,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces},
		},
	}}
	response, err := runtime.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: p.config, RuntimeHandler: handler})
	if err != nil {
		t.Fatalf("run the pod %s: %v", name, err)
	}
	p.id = response.PodSandboxId
	t.Cleanup(func() { p.remove(t) })
	return p
}

func (p *pod) remove(t *testing.T) {
	ctx, cancel := after()
	defer cancel()
	if _, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		t.Errorf("stop the pod %s: %v", p.config.Metadata.Name, err)
	}
	if _, err := runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		t.Errorf("remove the pod %s: %v", p.config.Metadata.Name, err)
	}
	removeParent(ctx, t, p.config.Linux.CgroupParent)
}

// removeParent removes a pod's own cgroup, as the kubelet does: the runtime
// removes only those of containers. It fails when a container left one in it.
func removeParent(ctx context.Context, t *testing.T, parent string) {
	if parent == "" {
		return
	}
	if strings.HasSuffix(parent, ".slice") && bed != "bare" {
		if out, err := exec.CommandContext(ctx, "systemctl", "stop", parent).CombinedOutput(); err != nil {
			t.Errorf("stop %s: %v: %s", parent, err, out)
		}
		return
	}
	hierarchies := []string{"/sys/fs/cgroup"}
	if bed == "hybrid" {
		entries, err := os.ReadDir("/sys/fs/cgroup")
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			hierarchies = append(hierarchies, "/sys/fs/cgroup/"+e.Name())
		}
	}
	for _, h := range hierarchies {
		if err := os.Remove(path.Join(h, parent)); err != nil && !os.IsNotExist(err) {
			t.Errorf("a container left its cgroup in the pod's: %v", err)
		}
	}
}

// request asks for a busybox container in the pod.
func (p *pod) request(name string, resources *cri.LinuxContainerResources, args ...string) *cri.CreateContainerRequest {
	return &cri.CreateContainerRequest{
		PodSandboxId:  p.id,
		SandboxConfig: p.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name},
			Image:    &cri.ImageSpec{Image: busyboxRef},
			Command:  args,
			LogPath:  name + ".log",
			Linux: &cri.LinuxContainerConfig{
				Resources:       resources,
				SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions},
			},
		},
	}
}

// run makes a container in the pod and starts it.
func (p *pod) run(t *testing.T, name string, resources *cri.LinuxContainerResources, args ...string) string {
	t.Helper()
	response, err := runtime.CreateContainer(t.Context(), p.request(name, resources, args...))
	if err != nil {
		t.Fatalf("create the container %s: %v", name, err)
	}
	id := response.ContainerId
	if _, err := runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatalf("start the container %s: %v", name, err)
	}
	return id
}

// awaitMember waits until a pod's container has exited.
func awaitMember(t *testing.T, id string) *cri.ContainerStatus {
	t.Helper()
	status, err := exited(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// exited returns the status of a pod's container when it has exited.
func exited(ctx context.Context, id string) (*cri.ContainerStatus, error) {
	var status *cri.ContainerStatus
	err := poll(func() string {
		response, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return err.Error()
		}
		status = response.Status
		if status.State != cri.ContainerState_CONTAINER_EXITED {
			return status.State.String()
		}
		return ""
	})
	if err != nil {
		return nil, fmt.Errorf("the container %s does not exit: %w", id, err)
	}
	return status, nil
}
