// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

var sleep = []string{"sleep", "1000"}

// TestPodNetwork: two pods get addresses and reach each other; a host port
// reaches a pod.
func TestPodNetwork(t *testing.T) {
	t.Parallel()
	n := node(t)
	server := n.RunPod(t, "server", func(c *cri.PodSandboxConfig) {
		c.PortMappings = []*cri.PortMapping{{Protocol: cri.Protocol_TCP, ContainerPort: 7070, HostPort: 17070}}
	})
	client := n.RunPod(t, "client")
	serverIP, clientIP := server.Status(t).Network.GetIp(), client.Status(t).Network.GetIp()
	for _, ip := range []string{serverIP, clientIP} {
		address, err := netip.ParseAddr(ip)
		if err != nil || !netip.MustParsePrefix("10.213.0.0/24").Contains(address) {
			t.Fatalf("pod address %q is not of the network", ip)
		}
	}
	if serverIP == clientIP {
		t.Fatalf("both pods have %s", serverIP)
	}
	server.Run(t, "listener", []string{"sh", "-c", "while :; do hostname | nc -l -p 7070; done"})
	m := client.Run(t, "dialer", sleep)
	harness.Eventually(t, "one pod answers the other", func() string {
		r := m.ExecSync(t, "nc", "-w", "2", serverIP, "7070")
		if got := string(r.Stdout); got != "host-server\n" {
			return fmt.Sprintf("%q %q %d", got, r.Stderr, r.ExitCode)
		}
		return ""
	})
	harness.Eventually(t, "the host port reaches the pod", func() string {
		connection, err := net.DialTimeout("tcp", "10.213.0.1:17070", harness.Patience)
		if err != nil {
			return err.Error()
		}
		defer connection.Close()
		got, err := io.ReadAll(connection)
		if err != nil || string(got) != "host-server\n" {
			return fmt.Sprintf("%q, %v", got, err)
		}
		return ""
	})
}

// TestSharedNamespaces: the containers of a pod see the same network, IPC and
// UTS namespaces, not the same processes, and one shim serves them all.
func TestSharedNamespaces(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "shared")
	one, two := pod.Run(t, "one", sleep), pod.Run(t, "two", sleep)
	for namespace, same := range map[string]bool{"net": true, "ipc": true, "uts": true, "pid": false, "mnt": false} {
		script := "readlink /proc/self/ns/" + namespace
		a, b := one.Shell(t, script), two.Shell(t, script)
		if (a == b) != same {
			t.Errorf("namespace %s: %s and %s, shared should be %v", namespace, a, b, same)
		}
	}
	if got := one.Shell(t, "hostname"); got != "host-shared" {
		t.Errorf("hostname %q", got)
	}
	two.Shell(t, "echo through shm >/dev/shm/file")
	if got := one.Shell(t, "cat /dev/shm/file"); got != "through shm" {
		t.Errorf("/dev/shm is not shared: %q", got)
	}
	if shims := harness.Shims(pod.ID); len(shims) != 1 {
		t.Errorf("shims of the pod:\n%s", harness.Describe(shims))
	}
	for _, m := range []*harness.Member{one, two} {
		if shims := harness.Shims(m.ID); len(shims) != 0 {
			t.Errorf("a container has a shim of its own:\n%s", harness.Describe(shims))
		}
	}
}

// TestHostNetwork: such a pod has the node's network and no CNI.
func TestHostNetwork(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "hostnet", func(c *cri.PodSandboxConfig) {
		c.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
		c.Hostname = "" // the node's
	})
	m := pod.Run(t, "app", sleep)
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Shell(t, "readlink /proc/self/ns/net"); got != mine {
		t.Errorf("network namespace %s, the node's is %s", got, mine)
	}
}

// TestPodSurvivesItsContainers: containers come and go while the pod stays.
func TestPodSurvivesItsContainers(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "stays")
	for i := range 3 {
		name := fmt.Sprintf("round-%d", i)
		m := pod.Run(t, name, []string{"sh", "-c", fmt.Sprintf("exit %d", i)})
		s := m.AwaitExit(t)
		if s.ExitCode != int32(i) {
			t.Errorf("%s: exit code %d", name, s.ExitCode)
		}
		if want := map[bool]string{true: "Completed", false: "Error"}[i == 0]; s.Reason != want {
			t.Errorf("%s: reason %q, want %q", name, s.Reason, want)
		}
		if _, err := n.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: m.ID}); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	if s := pod.Status(t); s.State != cri.PodSandboxState_SANDBOX_READY {
		t.Errorf("the pod is %v", s.State)
	}
}

// TestListing: what runs is listed, by filter too.
func TestListing(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "listed", func(c *cri.PodSandboxConfig) { c.Labels = map[string]string{"test": "listing"} })
	m := pod.Run(t, "app", sleep)
	pods, err := n.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{LabelSelector: map[string]string{"test": "listing"}}})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Id != pod.ID {
		t.Errorf("pods %v, %v", pods, err)
	}
	containers, err := n.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: pod.ID}})
	if err != nil || len(containers.Containers) != 1 || containers.Containers[0].Id != m.ID ||
		containers.Containers[0].State != cri.ContainerState_CONTAINER_RUNNING {
		t.Errorf("containers %v, %v", containers, err)
	}
}

// TestCgroupParent: the containers are where kubelet said.
func TestCgroupParent(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "placed")
	m := pod.Run(t, "app", sleep)
	got := m.Shell(t, "cat /proc/1/cgroup")
	want := pod.Config.Linux.CgroupParent + "/" + m.ID
	for _, controller := range []string{"memory", "pids", "cpu"} {
		if !strings.Contains(got, ":"+controller+":"+want) {
			t.Errorf("controller %s is not in %s:\n%s", controller, want, got)
		}
	}
}
