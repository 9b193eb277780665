// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// steadySyncs is how often the pod is synchronized, and found as it should
	// be, before it counts as staying up.
	steadySyncs = 6
	pollEvery   = 500 * time.Millisecond
)

// Kubelet is a running kubelet, seen from outside.
type Kubelet struct {
	Settings
	// CRI is the runtime's, asked beside the kubelet.
	CRI cri.RuntimeServiceClient
	// Log returns what the kubelet has logged.
	Log func() string
	// Running returns an error when the kubelet has exited.
	Running func() error
	// Patience is how long anything may take: the kubelet collects what is left
	// of a pod once a minute.
	Patience time.Duration
}

// CheckDriver fails the test unless the kubelet says in its log that it took
// this cgroup driver from the runtime, and says nothing else.
func (k *Kubelet) CheckDriver(t testing.TB, want string) {
	t.Helper()
	const says = `"Using cgroup driver setting received from the CRI runtime"`
	var told []string
	for line := range strings.Lines(k.Log()) {
		if _, text, ok := strings.Cut(line, says); ok {
			t.Logf("the kubelet's log: %s", strings.TrimSpace(line))
			told = append(told, strings.TrimSpace(text))
		}
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("cgroupDriver=%q", want)}, told); diff != "" {
		t.Errorf("what the kubelet's log says of the driver from CRI (-want +got):\n%s", diff)
	}
}

// AwaitPod waits until the kubelet says that the pod runs and is ready, and
// returns what the runtime has of it.
func (k *Kubelet) AwaitPod(t testing.TB) *Pod {
	t.Helper()
	k.eventually(t, "the pod runs and is ready", func(ctx context.Context) string {
		all, err := pods(ctx)
		if err != nil {
			return err.Error()
		}
		i := slices.IndexFunc(all, func(p podStatus) bool { return strings.HasPrefix(p.Metadata.Name, podName+"-") })
		if i < 0 {
			return fmt.Sprintf("it is not among the kubelet's %d pods", len(all))
		}
		return all[i].ready()
	})
	p, err := k.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// CheckSteady waits for some synchronizations of the pod and fails the test
// unless it is then the same as before, and neither kubelet nor runtime have
// made anything of it twice.
func (k *Kubelet) CheckSteady(t testing.TB, before *Pod) {
	t.Helper()
	begun := time.Now()
	first, err := synced(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k.eventually(t, "the pod is synchronized a few times", func(ctx context.Context) string {
		now, err := synced(ctx)
		if err != nil {
			return err.Error()
		}
		if now < first+steadySyncs {
			return fmt.Sprintf("%d times of %d", now-first, steadySyncs)
		}
		return ""
	})
	t.Logf("%d synchronizations in %v", steadySyncs, time.Since(begun).Round(time.Second))
	after := k.AwaitPod(t)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the pod before (-) and after (+) %d synchronizations:\n%s", steadySyncs, diff)
	}
	all, err := pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount != 0 {
				t.Errorf("the kubelet has restarted the container %s of %s %d times", c.Name, p.Metadata.Name, c.RestartCount)
			}
		}
	}
	if strings.Contains(k.Log(), "Pod sandbox changed, it will be killed and re-created") {
		t.Error("the kubelet's log says that the pod was made again")
	}
}

// AwaitGone waits until nothing of the pod is left in the runtime nor below the
// kubelet's directory. The pod must have been removed.
func (k *Kubelet) AwaitGone(t testing.TB) {
	t.Helper()
	k.eventually(t, "nothing of the pod is left", func(ctx context.Context) string {
		sandboxes, err := k.CRI.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		if err != nil {
			return err.Error()
		}
		list, err := k.CRI.ListContainers(ctx, &cri.ListContainersRequest{})
		if err != nil {
			return err.Error()
		}
		if len(sandboxes.Items)+len(list.Containers) > 0 {
			return fmt.Sprintf("%d sandboxes and %d containers", len(sandboxes.Items), len(list.Containers))
		}
		return strings.Join(k.Volumes(t), ", ")
	})
}

// Volumes lists what is mounted below the kubelet's directory.
func (k *Kubelet) Volumes(t testing.TB) []string {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(k.Root()))
	if err != nil {
		t.Fatalf("list the mounts: %v", err)
	}
	var points []string
	for _, m := range mounts {
		// The kubelet makes its directory a mount, so that what is mounted below
		// reaches containers, and leaves it.
		if m.Mountpoint != k.Root() {
			points = append(points, m.Mountpoint)
		}
	}
	return points
}

// Unmount removes the mounts of a kubelet that has ended: its own directory,
// and before it the volumes that a failed test leaves.
func (k *Kubelet) Unmount(t testing.TB) {
	points := k.Volumes(t)
	slices.Reverse(points) // innermost first
	for _, point := range append(points, k.Root()) {
		if err := syscall.Unmount(point, 0); err != nil && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("unmount %s: %v", point, err)
		}
	}
}

// eventually waits until condition returns "". It ends the test when the
// kubelet does not live that long.
func (k *Kubelet) eventually(t testing.TB, what string, condition func(context.Context) string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), k.Patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := ""
	for {
		now := condition(ctx)
		if now == "" {
			return
		}
		if err := k.Running(); err != nil {
			t.Fatalf("%s: the kubelet has exited: %v", what, err)
		}
		if ctx.Err() == nil {
			last = now // and not that the time is up
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: still not so after %v: %s", what, k.Patience, last)
		case <-tick.C:
		}
	}
}

// LogEnd is the end of the kubelet's log, for the report of a failure.
func (k *Kubelet) LogEnd() string {
	lines := strings.Split(strings.TrimSpace(k.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}
