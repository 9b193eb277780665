// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/harness"
)

func TestExecSync(t *testing.T) {
	t.Parallel()
	n := node(t)
	m := n.RunPod(t, "exec").Run(t, "app", sleep)
	for _, tc := range []struct {
		name, script, stdout, stderr string
		code                         int32
	}{
		{name: "output", script: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{name: "code", script: "exit 33", code: 33},
		{name: "signal", script: "kill -KILL $$", code: 137},
		{name: "much", script: "head -c 1000000 /dev/zero | tr '\\0' x", stdout: strings.Repeat("x", 1_000_000)},
	} {
		r := m.ExecSync(t, "sh", "-c", tc.script)
		if string(r.Stdout) != tc.stdout || string(r.Stderr) != tc.stderr || r.ExitCode != tc.code {
			t.Errorf("%s: got (%d bytes %.80q, %q, %d)", tc.name, len(r.Stdout), r.Stdout, r.Stderr, r.ExitCode)
		}
	}
}

// TestExecSyncTimeout: the process is killed and the caller is told why.
func TestExecSyncTimeout(t *testing.T) {
	t.Parallel()
	n := node(t)
	m := n.RunPod(t, "timeout").Run(t, "app", sleep)
	_, err := n.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: m.ID, Cmd: []string{"sleep", "997"}, Timeout: 1})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error %v, want DeadlineExceeded", err)
	}
	for _, p := range harness.Processes() {
		if len(p.Args) == 2 && p.Args[1] == "997" {
			t.Errorf("the process runs on: %v", p)
		}
	}
	if got := m.Shell(t, "echo alive"); got != "alive" {
		t.Errorf("exec after the timeout: %q", got)
	}
}

// TestStopWithGrace: a container that ignores SIGTERM gets SIGKILL when the
// grace period is over, and not before.
func TestStopWithGrace(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "stubborn")
	m := pod.Run(t, "app", []string{"sh", "-c", "trap 'echo ignored' TERM; echo ready; while :; do sleep 1000 & wait $!; done"})
	awaitLog(t, m, "ready")
	began := time.Now()
	if _, err := n.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: m.ID, Timeout: 2}); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if took := time.Since(began); took < 2*time.Second || took > 15*time.Second {
		t.Errorf("stop took %v with a grace period of 2 s", took)
	}
	s := m.Status(t)
	if s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != 137 {
		t.Errorf("status %v, exit code %d", s.State, s.ExitCode)
	}
	if finished := time.Unix(0, s.FinishedAt); finished.Before(began) || finished.After(time.Now()) {
		t.Errorf("finished at %v", finished)
	}
	awaitLog(t, m, "ignored")
}

// TestStopInTime: a container that ends on SIGTERM keeps its own exit code.
func TestStopInTime(t *testing.T) {
	t.Parallel()
	n := node(t)
	m := n.RunPod(t, "polite").Run(t, "app", harness.ExitOnTerm(7))
	awaitLog(t, m, "ready")
	if _, err := n.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: m.ID, Timeout: 20}); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if s := m.Status(t); s.ExitCode != 7 {
		t.Errorf("exit code %d, want 7", s.ExitCode)
	}
}

// TestOOM: kubelet reports OOMKilled, so the reason has to be right.
func TestOOM(t *testing.T) {
	t.Parallel()
	n := node(t)
	m := n.RunPod(t, "greedy").Run(t, "app", []string{"sh", "-c", "x=x; while :; do x=$x$x; done"}, func(c *cri.ContainerConfig) {
		c.Linux.Resources.MemoryLimitInBytes = 32 << 20
	})
	s := m.AwaitExit(t)
	if s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("reason %q, exit code %d", s.Reason, s.ExitCode)
	}
}

// TestOOMAtOnce: no kill is missed when the container ends with it as soon as it
// runs. The same is asked of the systemd driver and of cgroup v2 in a virtual
// machine (integration/vm).
func TestOOMAtOnce(t *testing.T) {
	n := node(t)
	pod := n.RunPod(t, "killed")
	kills := &harness.OOMKills{
		CRI:      n.RuntimeServiceClient,
		Request:  func(name string) *cri.CreateContainerRequest { return pod.Request(name) },
		Patience: harness.Patience,
	}
	kills.Run(t, n.Client(), 300)
}

func TestUpdateContainerResources(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "resized")
	m := pod.Run(t, "app", sleep)
	_, err := n.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{
		ContainerId: m.ID,
		Linux:       &cri.LinuxContainerResources{MemoryLimitInBytes: 96 << 20, CpuShares: 333, CpuQuota: 55000, CpuPeriod: 100000},
	})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"memory/%/memory.limit_in_bytes": "100663296",
		"cpu/%/cpu.shares":               "333",
		"cpu/%/cpu.cfs_quota_us":         "55000",
	} {
		path := filepath.Join("/sys/fs/cgroup", strings.ReplaceAll(file, "%", pod.Config.Linux.CgroupParent+"/"+m.ID))
		got, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %q, %v; want %s", path, got, err, want)
		}
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "measured")
	m := pod.Run(t, "app", []string{"sh", "-c", "while :; do :; done"})
	harness.Eventually(t, "container statistics", func() string {
		r, err := n.ContainerStats(t.Context(), &cri.ContainerStatsRequest{ContainerId: m.ID})
		if err != nil {
			return err.Error()
		}
		if r.Stats.Cpu.GetUsageCoreNanoSeconds().GetValue() == 0 || r.Stats.Memory.GetWorkingSetBytes().GetValue() == 0 {
			return r.Stats.String()
		}
		return ""
	})
	harness.Eventually(t, "the pod's statistics", func() string {
		r, err := n.PodSandboxStats(t.Context(), &cri.PodSandboxStatsRequest{PodSandboxId: pod.ID})
		if err != nil {
			return err.Error()
		}
		linux := r.Stats.GetLinux()
		if linux.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || linux.GetMemory().GetUsageBytes().GetValue() == 0 || len(linux.GetContainers()) != 1 {
			return r.Stats.String()
		}
		if linux.GetNetwork().GetDefaultInterface().GetName() == "" {
			return "no network: " + linux.GetNetwork().String()
		}
		return ""
	})
	all, err := n.ListContainerStats(t.Context(), &cri.ListContainerStatsRequest{Filter: &cri.ContainerStatsFilter{PodSandboxId: pod.ID}})
	if err != nil || len(all.Stats) != 1 {
		t.Errorf("list of container statistics: %v, %v", all, err)
	}
	pods, err := n.ListPodSandboxStats(t.Context(), &cri.ListPodSandboxStatsRequest{Filter: &cri.PodSandboxStatsFilter{Id: pod.ID}})
	if err != nil || len(pods.Stats) != 1 {
		t.Errorf("list of pod statistics: %v, %v", pods, err)
	}
}

// TestStartFailures: the errors that users of runc know.
func TestStartFailures(t *testing.T) {
	t.Parallel()
	n := node(t)
	pod := n.RunPod(t, "broken")
	for _, tc := range []struct {
		name    string
		command []string
		want    string
		code    int32
	}{
		{name: "absent", command: []string{"/no/such"}, want: "no such file or directory", code: 128},
		{name: "absent-in-path", command: []string{"no-such"}, want: "executable file not found", code: 128},
		{name: "plain", command: []string{"/plain"}, want: "permission denied", code: 128},
	} {
		m := pod.CreateContainer(t, tc.name, tc.command)
		_, err := n.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: m.ID})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
		if s := m.Status(t); s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != tc.code || s.Reason != "StartError" {
			t.Errorf("%s: status %v, code %d, reason %q", tc.name, s.State, s.ExitCode, s.Reason)
		}
	}
}

// TestNothingIsLeft: after stop and remove there is no process, mount, network
// namespace, cgroup or socket of the pod.
func TestNothingIsLeft(t *testing.T) {
	n := node(t)
	ok := t.Run("pod", func(t *testing.T) {
		pod := n.RunPod(t, "gone")
		pod.Run(t, "one", sleep)
		two := pod.Run(t, "two", []string{"sh", "-c", "sleep 1000 & sleep 1000"})
		two.Shell(t, "true")
	})
	if ok {
		harness.Leftovers(t, n.Daemon)
	}
}
