// SPDX-License-Identifier: Apache-2.0

package reaping

import (
	"fmt"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestSharedPIDPod: in a pod with one PID namespace the pod's first process
// adopts, the shim ends what a container leaves there, and the codes of
// containers that come and go stay apart.
func TestSharedPIDPod(t *testing.T) {
	n := harness.SharedNode(t, harness.Spec{Kind: harness.KindQuoind})
	ok := t.Run("pod", func(t *testing.T) {
		pod := n.RunPod(t, "sharedpid", func(c *cri.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
		})
		stays := pod.Run(t, "stays", []string{"sleep", "910"})
		if got := stays.Shell(t, "cat /proc/1/comm"); got != "sh" {
			t.Errorf("PID 1 of the pod is %q, not the pause process", got)
		}
		for i := range 3 {
			m := pod.Run(t, fmt.Sprintf("leaves-%d", i), []string{"sh", "-c",
				fmt.Sprintf("(setsid sleep 911 &); (setsid sleep 911 &); (setsid sleep 0.01 &); exit %d", 40+i)})
			if s := m.AwaitExit(t); s.ExitCode != int32(40+i) {
				t.Errorf("exit code %d, want %d", s.ExitCode, 40+i)
			}
			harness.Eventually(t, "what the container left is ended", func() string { return harness.Describe(running("sleep", "911")) })
		}
		noZombies(t)
		if s := stays.Status(t); s.State != cri.ContainerState_CONTAINER_RUNNING {
			t.Errorf("the other container is %v", s.State)
		}
		r := stays.ExecSync(t, "sh", "-c", "(setsid sleep 912 >/dev/null 2>&1 &); exit 50")
		if r.ExitCode != 50 {
			t.Errorf("exec: exit code %d, want 50", r.ExitCode)
		}
		noZombies(t)
	})
	if ok {
		noZombies(t)
		harness.Leftovers(t, n.Daemon)
	}
}
