// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	dbus "github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/nested"
)

// newPlace makes a place on the machine's disk that an inner root can enter.
func newPlace(t *testing.T, uid int) *nested.Place {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "nested-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return nested.NewPlace(t, dir, uid, "")
}

// outer starts a container for an inner quoind and returns its cgroup.
func outer(t *testing.T, args []string, specs ...oci.SpecOpts) (*container, string) {
	t.Helper()
	name := id(t, "outer")
	unit := "nested-" + name + ".scope"
	c := start(t, name, args, append(specs, oci.WithCgroup("system.slice:nested:"+name))...)
	base := "/system.slice/" + unit
	if !onSystemd() {
		base = cgroupOf(t, c.pid())
	}
	return c, base
}

// checkInner compares the decision of an inner quoind.
func checkInner(t *testing.T, i *nested.Inner, driver, reason string, told cri.CgroupDriver) {
	t.Helper()
	if e := i.Driver(t); e["driver"] != driver || !strings.Contains(e["reasons"], reason) {
		t.Errorf("the inner plugin exports %v, want %s for the reason %q", e, driver, reason)
	}
	if got := i.CgroupDriver(t); got != told {
		t.Errorf("the inner RuntimeConfig says %v, want %v", got, told)
	}
}

// checkEnd kills the outer container with all that runs in it.
func checkEnd(t *testing.T, c *container, i *nested.Inner, base string) {
	t.Helper()
	inside := i.Processes()
	c.kill(t)
	remove(t, c.ID())
	for _, p := range inside {
		if alive(p.PID) {
			t.Errorf("left: %s", p)
		}
	}
	eventually(t, "the outer cgroup is gone", func() string {
		if !gone(base) {
			return base
		}
		return ""
	})
}

// TestNestedSystemd: in a container whose process 1 is systemd, quoind is a unit
// of that systemd and has it make scopes, all within the container's own.
func TestNestedSystemd(t *testing.T) {
	logOnFailure(t)
	p := newPlace(t, 0)
	c, base := outer(t, nested.Systemd, p.Machine(t)...)
	i := p.Connect(t, c.pid())
	checkInner(t, i, "systemd", "quoind.service", cri.CgroupDriver_SYSTEMD)
	b := nested.Bounds{Base: base, Systemd: true}
	i.Containers(t, b)

	path := i.Start(t, b, "shown", "4330")
	scope := path[strings.LastIndexByte(path, '/')+1:]
	shown := i.Shell(t, "systemctl show --property=ControlGroup,ActiveState "+scope)
	if !strings.Contains(shown, "ControlGroup="+path) || !strings.Contains(shown, "ActiveState=active") {
		t.Errorf("the inner systemd says of %s: %s", scope, shown)
	}
	if got := systemctl(t, "show", "--property=LoadState", "--value", scope); got != "not-found" {
		t.Errorf("the machine's systemd says of the inner %s: %s", scope, got)
	}
	if units := i.Shell(t, "systemctl list-units --plain --no-legend 'quoin-shim-*.scope'"); !strings.Contains(units, "quoin-shim-shown") {
		t.Errorf("the inner shim has no scope: %s", units)
	}
	i.CheckDoctor(t, map[string]string{"host.init": "ok", "cgroup.driver": "ok", "cgroup.delegation": "ok", "cgroup.controllers": "ok"})
	checkLimits(t, i, b)
	checkEnd(t, c, i, base)
}

// TestNestedWithoutSystemd: in a container without a systemd of its own the
// driver is cgroupfs, whatever of the machine's systemd is shown to it: that one
// would make scopes outside the container, for processes of its own numbers.
func TestNestedWithoutSystemd(t *testing.T) {
	t.Run("shown", func(t *testing.T) {
		logOnFailure(t)
		p := newPlace(t, 0)
		c, base := outer(t, p.Alone(""), append(p.Container(), nested.Shown("/run/systemd"), nested.Shown("/run/dbus"))...)
		i := p.Connect(t, c.pid())
		checkInner(t, i, "cgroupfs", "not systemd", cri.CgroupDriver_CGROUPFS)
		b := nested.Bounds{Base: base}
		i.Containers(t, b)
		checkLimits(t, i, b)
		// What is written for systemd runs, and without the machine's.
		i.Shell(t, "quoinctl run --detach --cgroup system.slice:q:foreign "+busyboxRef+" foreign sleep 4331")
		i.CheckPlace(t, base, i.Find(t, "sleep", "4331"), "/system.slice/q-foreign.scope")
		if got := systemctl(t, "show", "--property=LoadState", "--value", "q-foreign.scope"); got != "not-found" {
			t.Errorf("the machine's systemd made a scope for an inner container: %s", got)
		}
		i.CheckContained(t, base)
		checkEnd(t, c, i, base)
	})
	// With a process 1 that is called as systemd is, the manager is asked, and it
	// is another's.
	t.Run("named", func(t *testing.T) {
		logOnFailure(t)
		p := newPlace(t, 0)
		c, base := outer(t, p.Run("echo systemd >/proc/self/comm"), append(p.Container(), nested.Shown("/run/systemd"), nested.Shown("/run/dbus"))...)
		i := p.Connect(t, c.pid())
		checkInner(t, i, "cgroupfs", "does not know the unit", cri.CgroupDriver_CGROUPFS)
		checkEnd(t, c, i, base)
	})
}

// TestNestedUserNamespaceSystemd: where process 1 of the user namespace is
// systemd, that is the driver, in the cgroup that the machine's delegated.
func TestNestedUserNamespaceSystemd(t *testing.T) {
	logOnFailure(t)
	p := newPlace(t, nested.Root)
	unit := id(t, "u") + ".scope"
	base := "/system.slice/" + unit
	i := p.InUserNamespace(t, nested.Rootless{Systemd: true, Delegate: func(pid int) string {
		delegate(t, "system.slice", unit, pid, nil)
		return cgroupDir(base)
	}})
	checkInner(t, i, "systemd", "quoind.service", cri.CgroupDriver_SYSTEMD)
	i.Start(t, nested.Bounds{Base: base, Systemd: true}, "c1", "4321")
	i.CheckContained(t, base)
	if got := i.Kill(t, "c1"); got != 137 {
		t.Errorf("a killed container exits with %d", got)
	}
}

// TestNestedUserNamespace: in a user namespace with a cgroup that systemd
// delegated, limits of containers are set and enforced; those whose controller
// was not delegated are refused with an error that says so.
func TestNestedUserNamespace(t *testing.T) {
	for slice, controllers := range map[string][]string{
		"system.slice": nil, // all of them
		// A slice of its own: siblings would bring in theirs.
		"nestedsome.slice": {"memory", "pids"},
	} {
		t.Run(slice, func(t *testing.T) {
			logOnFailure(t)
			p := newPlace(t, nested.Root)
			unit := id(t, "u") + ".scope"
			base := "/" + slice + "/" + unit
			i := p.InUserNamespace(t, nested.Rootless{Delegate: func(pid int) string {
				delegate(t, slice, unit, pid, controllers)
				return cgroupDir(base)
			}})
			checkInner(t, i, "cgroupfs", "systemd", cri.CgroupDriver_CGROUPFS)
			if e := i.Driver(t); e["delegated"] != "true" || e["user_namespace"] != "true" {
				t.Errorf("the inner plugin exports %v", e)
			}
			if controllers == nil {
				b := nested.Bounds{Base: base}
				i.Containers(t, b)
				checkLimits(t, i, b)
				i.CheckDoctor(t, map[string]string{"cgroup.driver": "ok", "cgroup.delegation": "ok", "cgroup.controllers": "ok"})
				return
			}
			checkMemory(t, i, nested.Bounds{Base: base, Flags: "--cpu-shares 0"})
			_, stderr, err := i.Try(t, "quoinctl run --rm --cpus 0.5 "+busyboxRef+" bounded true")
			if err == nil || !strings.Contains(stderr, "does not give the cpu controller") {
				t.Errorf("a limit that was not delegated: %v, %s", err, stderr)
			}
			if f := i.Doctor(t)["cgroup.controllers"]; f.Status != "fail" || !strings.Contains(f.Message, "cpu missing") || !strings.Contains(f.Fix, "Delegate=cpu") {
				t.Errorf("the doctor's finding on controllers is %+v", f)
			}
		})
	}
}

// delegate has the machine's systemd put a process into a scope with Delegate=.
func delegate(t *testing.T, slice, unit string, pid int, controllers []string) {
	t.Helper()
	conn, err := dbus.NewSystemConnectionContext(t.Context())
	if err != nil {
		t.Fatalf("connect to systemd: %v", err)
	}
	defer conn.Close()
	properties := []dbus.Property{dbus.PropSlice(slice), dbus.PropPids(uint32(pid)),
		{Name: "Delegate", Value: godbus.MakeVariant(true)}}
	if controllers != nil {
		properties[2] = dbus.Property{Name: "DelegateControllers", Value: godbus.MakeVariant(controllers)}
	}
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(t.Context(), unit, "fail", properties, done); err != nil {
		t.Fatalf("make the scope %s: %v", unit, err)
	}
	if result := <-done; result != "done" {
		t.Fatalf("make the scope %s: %s", unit, result)
	}
}

// checkLimits sets limits of a container inside, reads them back and runs into one.
func checkLimits(t *testing.T, i *nested.Inner, b nested.Bounds) {
	t.Helper()
	bounded := b
	bounded.Flags += " --memory-limit 67108864 --cpus 0.5 --cpuset-cpus 0"
	path := i.Start(t, bounded, "bounded", "4340")
	for file, want := range map[string]string{"memory.max": "67108864", "cpu.max": "50000 100000", "cpuset.cpus": "0"} {
		if got := i.Shell(t, "cat /sys/fs/cgroup"+path+"/"+file); got != want {
			t.Errorf("%s of a container inside is %s, want %s", file, got, want)
		}
	}
	i.Kill(t, "bounded")
	i.Shell(t, "quoinctl tasks rm bounded && quoinctl containers rm bounded")
	checkMemory(t, i, b)
}

// checkMemory has a container inside die of its memory limit.
func checkMemory(t *testing.T, i *nested.Inner, b nested.Bounds) {
	t.Helper()
	_, _, err := i.Try(t, fmt.Sprintf("quoinctl run --rm %s --memory-limit 16777216 %s greedy sh -c 'dd if=/dev/zero of=/dev/null bs=64M count=1'", b.Flags, busyboxRef))
	if err == nil || !strings.Contains(err.Error(), "exit status 137") {
		t.Errorf("a container inside that takes more memory than it may: %v, want exit status 137", err)
	}
}
