// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"os"
	"path"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
)

// onSystemd says whether the bed's driver is systemd's.
func onSystemd() bool { return bed != "bare" }

// checkPlace compares the cgroup of a process with what is wanted. A unit of
// systemd's has to know the cgroup as its own.
func checkPlace(t *testing.T, what string, pid int, want string) {
	t.Helper()
	if got := cgroupOf(t, pid); got != want {
		t.Errorf("%s: process %d is in %s, want %s", what, pid, got, want)
		return
	}
	scope := strings.TrimSuffix(want, "/"+crunGroup)
	unit := path.Base(scope)
	if onSystemd() && strings.HasSuffix(unit, ".scope") {
		if got := systemctl(t, "show", "--property=ControlGroup", "--value", unit); got != scope {
			t.Errorf("%s: systemd says that %s is at %q, want %s", what, unit, got, scope)
		}
		if got := systemctl(t, "show", "--property=ActiveState", "--value", unit); got != "active" {
			t.Errorf("%s: %s is %s", what, unit, got)
		}
	}
	if info, err := os.Stat(cgroupDir(want)); err != nil || !info.IsDir() {
		t.Errorf("%s: %v", what, err)
	}
}

// TestPlacementWithoutPath: a container whose spec names no cgroup goes where
// the node's driver puts it.
func TestPlacementWithoutPath(t *testing.T) {
	logOnFailure(t)
	name := id(t, "c")
	c := start(t, name, []string{"sleep", "1000"}, oci.WithCgroup(""))
	want := "/" + name
	if onSystemd() {
		want = "/system.slice/runc-" + name + ".scope"
	}
	checkPlace(t, "no path", c.pid(), want)
	c.kill(t)
	remove(t, name)
	eventually(t, "the cgroup is gone", func() string {
		if !gone(want) {
			return want
		}
		return ""
	})
}

// TestPod: the sandbox and the other containers of a pod are in the pod's
// cgroup, made as the node's driver makes it.
func TestPod(t *testing.T) {
	logOnFailure(t)
	parent, dir := "/kubepods/besteffort/podplace", "/kubepods/besteffort/podplace/"
	if onSystemd() {
		parent = "kubepods-besteffort-podplace.slice"
		dir = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podplace.slice/"
	}
	place := func(id string) string {
		if onSystemd() {
			return dir + "cri-containerd-" + id + ".scope"
		}
		return dir + id
	}
	p := runPod(t, "place", parent)
	one := p.run(t, "one", nil, "sleep", "1000")
	two := p.run(t, "two", nil, "sleep", "1000")
	for what, id := range map[string]string{"the sandbox": p.id, "a container": one, "another": two} {
		checkPlace(t, what, taskPID(t, kubernetes, id), place(id))
	}
}

// TestMixedShapes: on one node, containers of every origin run where the shape
// of their path says; those that do not follow the node's driver are told of,
// once each.
func TestMixedShapes(t *testing.T) {
	logOnFailure(t)
	type shape struct {
		path, want string
		disagrees  bool
	}
	uid := "podmixed"
	slices := "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-" + uid + ".slice"
	shapes := map[string]shape{
		"path":     {path: "/foo/bar", want: "/foo/bar", disagrees: onSystemd()},
		"unit":     {path: "system.slice:q:x", want: "/system.slice/q-x.scope", disagrees: !onSystemd()},
		"slice":    {path: "kubepods-besteffort-" + uid + ".slice:cri-containerd:kubelet", want: slices + "/cri-containerd-kubelet.scope", disagrees: !onSystemd()},
		"cgroupfs": {path: "/kubepods/besteffort/" + uid + "/mixed", want: "/kubepods/besteffort/" + uid + "/mixed", disagrees: onSystemd()},
		"podless":  {path: "/k8s.io/mixed", want: "/k8s.io/mixed"},
	}
	if onSystemd() {
		shapes["podless"] = shape{path: "/k8s.io/mixed", want: "/system.slice/cri-containerd-mixed.scope"}
	}
	running := map[string]*container{}
	for name, s := range shapes {
		running[name] = start(t, id(t, name), []string{"sleep", "1000"}, oci.WithCgroup(s.path))
	}
	for name, s := range shapes {
		checkPlace(t, name, running[name].pid(), s.want)
		want := 0
		if s.disagrees {
			want = 1
		}
		eventually(t, "the log tells of "+name, func() string {
			got := 0
			for line := range strings.Lines(daemon.wholeLog()) {
				if strings.Contains(line, "cgroup driver, the node's is") && strings.Contains(line, id(t, name)) {
					got++
				}
			}
			if got != want {
				return "not as often as it should"
			}
			return ""
		})
	}
	for name, s := range shapes {
		running[name].kill(t)
		remove(t, running[name].ID())
		eventually(t, "the cgroup of "+name+" is gone", func() string {
			if !gone(s.want) {
				return s.want
			}
			return ""
		})
	}
	if onSystemd() {
		systemctl(t, "stop", "kubepods-besteffort-"+uid+".slice")
	}
}

// TestPlacementOfRun: what `quoinctl run` starts goes where its own path says,
// and `--cgroup` in systemd's form becomes a scope.
func TestPlacementOfRun(t *testing.T) {
	logOnFailure(t)
	scope := "/system.slice/ctr-run.scope"
	for _, tc := range []struct {
		name, want string
		flags      []string
	}{
		{"plain", "/" + namespace + "/" + id(t, "plain"), nil},
		{"scope", scope, []string{"--cgroup", "system.slice:ctr:run"}},
	} {
		name := id(t, tc.name)
		t.Cleanup(func() { remove(t, name) })
		args := append([]string{"run", "--detach", "--null-io"}, tc.flags...)
		quoinctl(t, append(args, busyboxRef, name, "sleep", "1000")...)
		checkPlace(t, tc.name, taskPID(t, namespace, name), tc.want)
	}
}
