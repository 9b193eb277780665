// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"fmt"
	"os"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestPod: a pod outlives its daemon. CRI reads the output itself, so what a
// container wrote meanwhile has to wait in the FIFO for the next daemon.
func TestPod(t *testing.T) {
	forgottenByReference(t)
	t.Parallel()
	d := harness.Start(t, harness.CRISpec(t, harness.Spec{Kind: harness.KindQuoind}))
	n := harness.NewNode(t, d)
	sync := t.TempDir()
	pod := n.RunPod(t, "outlives")
	mount := func(c *cri.ContainerConfig) {
		c.Mounts = []*cri.Mount{{HostPath: sync, ContainerPath: "/sync"}}
	}
	const lines = 1500
	finishes := pod.Run(t, "finishes", []string{"sh", "-c",
		fmt.Sprintf(`echo before; %s i=0; while [ $i -lt %d ]; do echo during $i; i=$((i+1)); done; exit 5`, await("go"), lines)}, mount)
	stays := pod.Run(t, "stays", []string{"sleep", "1000"})
	awaitLine(t, finishes, " before\n")
	pid := shimChildren(t, pod)

	d.Kill(t)
	touch(t, sync, "go")
	harness.Eventually(t, "the container finishes without the daemon", func() string {
		if now := shimChildren(t, pod); now == pid {
			return fmt.Sprintf("%d processes", now)
		}
		return ""
	})
	d.Restart(t)
	harness.NewNode(t, d)

	if s := finishes.AwaitExit(t); s.ExitCode != 5 {
		t.Errorf("exit code %d, want 5", s.ExitCode)
	}
	awaitLine(t, finishes, fmt.Sprintf(" during %d\n", lines-1))
	content, err := os.ReadFile(finishes.Log)
	if err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		if !strings.Contains(string(content), fmt.Sprintf(" during %d\n", i)) {
			t.Fatalf("line %d is lost", i)
		}
	}
	if s := stays.Status(t); s.State != cri.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the other container is %v", s.State)
	}
	if got := stays.Shell(t, "echo alive"); got != "alive" {
		t.Errorf("exec after the restart: %q", got)
	}
	if s := pod.Status(t); s.State != cri.PodSandboxState_SANDBOX_READY {
		t.Errorf("the pod is %v", s.State)
	}
	late := pod.Run(t, "late", []string{"sh", "-c", "exit 6"})
	if s := late.AwaitExit(t); s.ExitCode != 6 {
		t.Errorf("a container started after the restart: exit code %d", s.ExitCode)
	}
}

func awaitLine(t *testing.T, m *harness.Member, want string) {
	t.Helper()
	harness.Eventually(t, "the log has "+want, func() string {
		content, err := os.ReadFile(m.Log)
		if err != nil {
			return err.Error()
		}
		if !strings.Contains(string(content), want) {
			return fmt.Sprintf("%.200q", content)
		}
		return ""
	})
}

// shimChildren counts the processes below the pod's shim.
func shimChildren(t *testing.T, pod *harness.Pod) int {
	t.Helper()
	shims := harness.Shims(pod.ID)
	if len(shims) != 1 {
		t.Fatalf("shims of the pod:\n%s", harness.Describe(shims))
	}
	return len(harness.Children(shims[0].PID))
}
