// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// define makes a busybox container without a task, removed at the test's end.
func define(t *testing.T, name, binary string, specs ...oci.SpecOpts) containerd.Container {
	t.Helper()
	ctx := inNamespace(t)
	image, err := client.GetImage(ctx, busyboxRef)
	if err != nil {
		t.Fatalf("the busybox image: %v", err)
	}
	specs = append([]oci.SpecOpts{oci.WithImageConfigArgs(image, []string{"sleep", "1000"})}, specs...)
	made, err := client.NewContainer(ctx, name, containerd.WithImage(image), containerd.WithNewSnapshot(name, image),
		containerd.WithRuntime(config.RuntimeType, runtimeBinary(binary)), containerd.WithNewSpec(specs...))
	if err != nil {
		t.Fatalf("new container %s: %v", name, err)
	}
	t.Cleanup(func() { remove(t, name) })
	return made
}

// tried is how a call ended, and when.
type tried struct {
	err  error
	took time.Duration
}

// try runs a call beside the others.
func try(call func() error) <-chan tried {
	done := make(chan tried, 1)
	begun := time.Now()
	go func() {
		err := call()
		done <- tried{err, time.Since(begun)}
	}()
	return done
}

func newTask(ctx context.Context, c containerd.Container) error {
	_, err := c.NewTask(ctx, cio.NullIO)
	return err
}

// traces lists what on this machine bears a word in its name: cgroups, units,
// bundles, the OCI runtime's state, mounts and processes. It asks systemd only
// where that answers.
func traces(t *testing.T, word string, systemdAnswers bool) []string {
	t.Helper()
	var found []string
	for what, root := range map[string]string{
		"cgroup": "/sys/fs/cgroup", "bundle": "/run/quoind/io.containerd.runtime.v2.task", "state": "/run/containerd/runc",
	} {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil || !e.IsDir():
				return nil // what vanishes meanwhile is not left
			case strings.Contains(e.Name(), word):
				found = append(found, what+" "+path)
				return fs.SkipDir
			case e.Name() == "rootfs":
				return fs.SkipDir
			}
			return nil
		})
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, word) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	for _, p := range harness.Processes() {
		if strings.Contains(strings.Join(p.Args, " "), word) {
			found = append(found, "process "+p.String())
		}
	}
	if systemdAnswers {
		out, err := exec.CommandContext(t.Context(), "systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "*"+word+"*").Output()
		if err != nil {
			t.Fatalf("list the units: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			found = append(found, "unit "+strings.TrimSpace(line))
		}
	}
	return found
}

// checkNoTraces waits until nothing bears the word.
func checkNoTraces(t *testing.T, word string, systemdAnswers bool) {
	t.Helper()
	eventually(t, "nothing is left of "+word, func() string { return strings.Join(traces(t, word, systemdAnswers), "\n") })
}

// checkAtHome waits until the daemon is alone in its unit's cgroup, and nothing
// of Quoin's is stuck in the kernel. It does not ask systemd.
func checkAtHome(t *testing.T, daemonPID int) {
	t.Helper()
	const unit = "/sys/fs/cgroup/system.slice/quoind.service"
	eventually(t, "quoind is alone in its unit", func() string {
		var found []string
		err := filepath.WalkDir(unit, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.Name() != "cgroup.procs" {
				return err
			}
			pids, err := os.ReadFile(path)
			for _, field := range strings.Fields(string(pids)) {
				if pid, _ := strconv.Atoi(field); pid != daemonPID {
					p, _ := harness.FindProcess(pid)
					found = append(found, p.String())
				}
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Join(found, "\n")
	})
	eventually(t, "nothing is stuck in the kernel", func() string {
		var stuck []string
		for _, p := range harness.Processes() {
			if p.State == "D" && len(p.Args) > 0 {
				stuck = append(stuck, p.String())
			}
		}
		return strings.Join(stuck, "\n")
	})
}

// shimOf is the process that serves a container.
func shimOf(t *testing.T, name string) harness.Process {
	t.Helper()
	for _, p := range harness.Processes() {
		if i := slices.Index(p.Args, "-id"); i > 0 && i+1 < len(p.Args) && p.Args[i+1] == name && strings.HasPrefix(p.Name, "containerd-shim") {
			return p
		}
	}
	t.Fatalf("no shim serves %s", name)
	return harness.Process{}
}

// checkShimPlace compares the shim's own cgroup with the scope it should have.
func checkShimPlace(t *testing.T, name string) {
	t.Helper()
	pid := shimOf(t, name).PID
	checkPlace(t, "the shim of "+name, pid, "/system.slice/quoin-shim-"+name+"-"+strconv.Itoa(pid)+".scope")
}
