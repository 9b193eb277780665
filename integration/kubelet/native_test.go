// SPDX-License-Identifier: Apache-2.0

//go:build kubelet

package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoin-io/quoin/integration/harness"
)

// TestKubelet: on a machine without systemd, a kubelet whose file says systemd
// runs a pod by cgroupfs, as quoind tells it, and the pod stays.
func TestKubelet(t *testing.T) {
	keepFromMachine(t)
	node := harness.NewNode(t, harness.Start(t, harness.CRISpec(t, harness.Spec{Kind: harness.KindQuoind})))
	k := &Kubelet{
		Settings: Settings{
			Dir:        filepath.Join(harness.Base(), "kubelet"),
			Socket:     node.Address,
			Driver:     "systemd",
			CgroupRoot: makeRoot(t),
		},
		CRI:      node.RuntimeServiceClient,
		Patience: 4 * time.Minute,
	}
	k.start(t)
	if err := k.AddPod(); err != nil {
		t.Fatal(err)
	}
	pod := k.AwaitPod(t)
	k.CheckDriver(t, "cgroupfs")
	for name, m := range pod.Members {
		want := filepath.Join(k.CgroupRoot, "kubepods", "burstable", "pod"+pod.UID, m.ID)
		for _, controller := range []string{"cpu", "memory", "pids"} {
			if got := cgroupOf(t, m.PID, controller); got != want {
				t.Errorf("%q: process %d is in the cgroup %s of %s, want %s", name, m.PID, got, controller, want)
			}
		}
	}
	limit := fmt.Sprint(MemoryLimit)
	for dir, want := range map[string]string{
		filepath.Join("kubepods", "burstable", "pod"+pod.UID):                           fmt.Sprint(MemoryLimit * len(containers)),
		filepath.Join("kubepods", "burstable", "pod"+pod.UID, pod.Members["writer"].ID): limit,
	} {
		text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/memory", k.CgroupRoot, dir, "memory.limit_in_bytes"))
		if got := strings.TrimSpace(string(text)); err != nil || got != want {
			t.Errorf("the memory limit of %s is %q, want %s: %v", dir, got, want, err)
		}
	}
	k.CheckSteady(t, pod)
	if err := k.RemovePod(); err != nil {
		t.Fatal(err)
	}
	k.AwaitGone(t)
}

// cgroupOf is the cgroup of a process in the hierarchy of a controller of cgroup v1.
func cgroupOf(t *testing.T, pid int, controller string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":"+controller+":"); ok {
			return path
		}
	}
	t.Fatalf("process %d is in no cgroup of %s:\n%s", pid, controller, text)
	return ""
}
