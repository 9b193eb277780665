// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// stallBound is how long a call may take that waits for a systemd that does not
// answer: some twenty seconds, on a machine that is slow.
const stallBound = 90 * time.Second

// busDropIn puts a proxy before quoind's bus, and so before its shims'.
const busDropIn = "/etc/systemd/system/quoind.service.d/bus.conf"

// TestStalledSystemd: while the bus or systemd itself is stopped, every call that
// needs it ends in time with an error that names it, the others work, and nothing
// is left or misplaced. Afterwards all goes on.
func TestStalledSystemd(t *testing.T) {
	for name, stall := range map[string]struct {
		stop func(*testing.T) func()
		says string
	}{
		"bus":     {stopBus, "the system bus (" + busAddress + "), by which systemd is asked, gives no answer"},
		"manager": {stopManager, "systemd's manager gives no answer on the system bus (" + busAddress + ")"},
	} {
		t.Run(name, func(t *testing.T) {
			logOnFailure(t)
			pid, err := daemon.pid()
			if err != nil {
				t.Fatal(err)
			}
			live := start(t, id(t, "live"), []string{"sleep", "1000"}, oci.WithCgroup("system.slice:stall:"+id(t, "live")))
			checkShimPlace(t, live.ID())
			byUnit := define(t, id(t, "unit"), "", oci.WithCgroup("system.slice:stall:"+id(t, "unit")))
			byPath := define(t, id(t, "path"), "", oci.WithCgroup("/stall/"+id(t, "path")))
			sandboxes := len(allSandboxes(t))

			resume := stall.stop(t)
			create := "OCI runtime create was given up: " + stall.says
			checkStalled(t, map[string]stalled{
				"create, in a scope": {try(func() error { return newTask(inNamespace(t), byUnit) }), create},
				"create, by path": {try(func() error { return newTask(inNamespace(t), byPath) }),
					"ask systemd to start quoin-shim-" + byPath.ID()},
				"update": {try(func() error {
					return live.task.Update(inNamespace(t), containerd.WithResources(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ref(int64(50))}}))
				}),
					"OCI runtime update was given up: " + stall.says},
				"a pod": {try(func() error { return tryPod(t, "stall-"+name) }), create},
			})
			if got := live.shell(t, "echo here"); got != "here" {
				t.Errorf("an exec says %q", got)
			}
			if code := live.kill(t); code != 137 {
				t.Errorf("exit code %d", code)
			}
			checkStalled(t, map[string]stalled{
				"delete": {try(func() error { _, err := live.task.Delete(inNamespace(t)); return err }), "OCI runtime delete was given up: " + stall.says},
			})
			for _, left := range []string{byUnit.ID(), byPath.ID()} {
				checkNoTraces(t, left, false)
			}
			if got := len(allSandboxes(t)); got != sandboxes {
				t.Errorf("%d sandboxes, want %d", got, sandboxes)
			}

			resume()
			if _, err := live.task.Delete(inNamespace(t)); err != nil {
				t.Errorf("delete afterwards: %v", err)
			}
			for _, left := range []string{live.ID(), byUnit.ID(), byPath.ID()} {
				checkNoTraces(t, left, true)
			}
			checkAtHome(t, pid)
			checkWorks(t, byUnit, "/system.slice/stall-"+byUnit.ID()+".scope")
			checkWorks(t, byPath, "/stall/"+byPath.ID())
			p := runPod(t, "stall-"+name, stallParent)
			checkPlace(t, "a pod afterwards", taskPID(t, kubernetes, p.id), bySystemd.member(bySystemd.dir("podstall"), p.id))
		})
	}
}

// TestStallMidway: the bus is heard no more in the middle of a create, when
// systemd has done what it was asked for.
func TestStallMidway(t *testing.T) {
	const socket = "/run/bus-proxy.sock"
	proxy := newBusProxy(t, socket)
	if err := writeFile(busDropIn, "[Service]\nEnvironment=DBUS_SYSTEM_BUS_ADDRESS=unix:path="+socket+"\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := after()
		defer cancel()
		if err := errors.Join(os.Remove(busDropIn), command(ctx, "systemctl", "daemon-reload")); err != nil {
			t.Error(err)
		}
		restartDaemon(t)
	})
	systemctl(t, "daemon-reload")
	restartDaemon(t)
	for _, method := range []string{"StartTransientUnit", "SetUnitProperties"} {
		t.Run(method, func(t *testing.T) {
			logOnFailure(t)
			pid, err := daemon.pid()
			if err != nil {
				t.Fatal(err)
			}
			// A shim in place already, so that the call is the OCI runtime's.
			group := oci.WithAnnotations(map[string]string{"io.containerd.runc.v2.group": id(t, "group")})
			first := start(t, id(t, "first"), []string{"sleep", "1000"}, group, oci.WithCgroup("/stall/"+id(t, "first")))
			c := define(t, id(t, "c"), "", group, oci.WithCgroup("system.slice:stall:"+id(t, "c")))

			lost := proxy.muteAfter(method)
			checkStalled(t, map[string]stalled{
				"create": {try(func() error { return newTask(inNamespace(t), c) }),
					"OCI runtime create was given up: the system bus (unix:path=" + socket + "), by which systemd is asked, gives no answer"},
			})
			select {
			case <-lost:
			default:
				t.Errorf("the create ended before it called %s", method)
			}
			// systemd itself is well, and collects what has ended.
			checkNoTraces(t, c.ID(), true)
			proxy.resume()
			checkWorks(t, c, "/system.slice/stall-"+c.ID()+".scope")
			first.kill(t)
			remove(t, first.ID())
			checkNoTraces(t, c.ID(), true)
			checkAtHome(t, pid)
		})
	}
}

// stalled is a call under way and what its error has to say.
type stalled struct {
	done <-chan tried
	says string
}

func checkStalled(t *testing.T, calls map[string]stalled) {
	t.Helper()
	late := time.After(patience + stallBound)
	for what, c := range calls {
		select {
		case got := <-c.done:
			if got.err == nil || !strings.Contains(got.err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", what, got.err, c.says)
			}
			if got.took > stallBound {
				t.Errorf("%s took %v", what, got.took)
			}
			t.Logf("%s ended after %v: %v", what, got.took.Round(100*time.Millisecond), got.err)
		case <-late:
			t.Fatalf("%s does not end", what)
		}
	}
}

// checkWorks runs and removes a container that could not be created before.
func checkWorks(t *testing.T, c containerd.Container, want string) {
	t.Helper()
	again := &container{Container: c}
	again.newTask(t)
	if err := again.task.Start(inNamespace(t)); err != nil {
		t.Fatalf("start %s: %v", c.ID(), err)
	}
	checkPlace(t, c.ID(), again.pid(), want)
	if code := again.kill(t); code != 128+uint32(syscall.SIGKILL) {
		t.Errorf("exit code %d", code)
	}
	remove(t, c.ID())
	checkNoTraces(t, c.ID(), true)
}

var stallParent = bySystemd.parent("podstall")

// tryPod runs a pod that nobody has to remove when it fails.
func tryPod(t *testing.T, name string) error {
	namespaces := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}
	_, err := runtime.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Namespace: "vm", Uid: name},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    stallParent,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces},
		},
	}})
	return err
}

func allSandboxes(t *testing.T) []*cri.PodSandbox {
	t.Helper()
	list, err := runtime.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}
