// SPDX-License-Identifier: Apache-2.0

//go:build vm && kubelet

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

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/kubelet"
)

// kubeletUnit is the transient unit that the kubelet runs as.
const kubeletUnit = "kubelet.service"

// TestKubelet: a kubelet whose file says cgroupfs, on a node of systemd's, runs
// a pod by the driver that quoind tells it, and the pod stays.
func TestKubelet(t *testing.T) {
	logOnFailure(t)
	k := &kubelet.Kubelet{
		Settings: kubelet.Settings{
			Dir:        "/var/lib/kubelet",
			Socket:     config.DefaultDaemon().Address,
			Driver:     "cgroupfs",
			CgroupRoot: "/",
		},
		CRI:      runtime,
		Log:      kubeletLog,
		Running:  kubeletRuns,
		Patience: 5 * time.Minute,
	}
	startKubelet(t, k)
	if err := k.AddPod(); err != nil {
		t.Fatal(err)
	}
	pod := k.AwaitPod(t)
	k.CheckDriver(t, "systemd")
	slice := "kubepods-burstable-pod" + strings.ReplaceAll(pod.UID, "-", "_") + ".slice"
	dir := "/kubepods.slice/kubepods-burstable.slice/" + slice
	for name, m := range pod.Members {
		checkPlace(t, fmt.Sprintf("the pod's %q", name), m.PID, dir+"/cri-containerd-"+m.ID+".scope")
	}
	checkPodLimits(t, pod, slice, dir)
	k.CheckSteady(t, pod)
	if err := k.RemovePod(); err != nil {
		t.Fatal(err)
	}
	k.AwaitGone(t)
	eventually(t, "the pod's slice is gone", func() string {
		if !gone(dir) {
			return dir
		}
		return ""
	})
}

// checkPodLimits compares what kubelet and runtime have written, each to its
// own cgroup, with the pod's manifest.
func checkPodLimits(t *testing.T, pod *kubelet.Pod, slice, dir string) {
	t.Helper()
	scope := "cri-containerd-" + pod.Members["writer"].ID + ".scope"
	for unit, want := range map[string]int{slice: 2 * kubelet.MemoryLimit, scope: kubelet.MemoryLimit} {
		file := filepath.Join(cgroupDir(dir), strings.TrimPrefix(unit, slice), "memory.max")
		text, err := os.ReadFile(file)
		if got := strings.TrimSpace(string(text)); err != nil || got != fmt.Sprint(want) {
			t.Errorf("%s is %q, want %d: %v", file, got, want, err)
		}
		if got := systemctl(t, "show", "--property=MemoryMax", "--value", unit); got != fmt.Sprint(want) {
			t.Errorf("systemd says that MemoryMax of %s is %s, want %d", unit, got, want)
		}
	}
}

// startKubelet runs the kubelet as a unit until the test's end, and then
// removes what it leaves: mounts and the slices of the classes of pods.
func startKubelet(t *testing.T, k *kubelet.Kubelet) {
	t.Helper()
	args, err := k.Write()
	if err != nil {
		t.Fatal(err)
	}
	// `make test-kubelet` takes it along.
	binary := filepath.Join(os.Getenv("QUOIN_BIN"), "kubelet")
	run := append([]string{"systemd-run", "--quiet", "--unit=" + kubeletUnit, "--service-type=exec", binary}, args...)
	if err := command(t.Context(), run...); err != nil {
		t.Fatalf("start the kubelet: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the kubelet's log:\n%s", k.LogEnd())
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := command(ctx, "systemctl", "stop", kubeletUnit, "kubepods.slice"); err != nil {
			t.Error(err)
		}
		k.Unmount(t)
		if err := os.RemoveAll(k.Dir); err != nil {
			t.Error(err)
		}
	})
}

func kubeletLog() string {
	text, err := journal(kubeletUnit)
	if err != nil {
		return err.Error()
	}
	return text
}

func kubeletRuns() error {
	out, err := exec.Command("systemctl", "is-active", kubeletUnit).Output()
	if err != nil {
		return fmt.Errorf("its unit is %s: %w", strings.TrimSpace(string(out)), err)
	}
	return nil
}
