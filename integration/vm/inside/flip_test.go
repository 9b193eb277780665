// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/quoin-io/quoin/integration/nested"
)

// driverSetting is the file by which an administrator chooses the driver.
const driverSetting = "/etc/quoind/conf.d/zz-driver.toml"

// layout is how a kubelet and CRI name and place pods under one driver.
type layout struct {
	driver string
	told   cri.CgroupDriver
	// parent makes the cgroup parent that a kubelet gives, and dir where it is.
	parent, dir func(pod string) string
	// member and podless are the cgroups of a container, in a pod and without a
	// parent.
	member  func(dir, id string) string
	podless func(id string) string
}

var (
	bySystemd = layout{
		driver: "systemd", told: cri.CgroupDriver_SYSTEMD,
		parent: func(pod string) string { return "kubepods-besteffort-" + pod + ".slice" },
		dir: func(pod string) string {
			return "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-" + pod + ".slice"
		},
		member:  func(dir, id string) string { return dir + "/cri-containerd-" + id + ".scope" },
		podless: func(id string) string { return "/system.slice/cri-containerd-" + id + ".scope" },
	}
	byCgroupfs = layout{
		driver: "cgroupfs", told: cri.CgroupDriver_CGROUPFS,
		parent:  func(pod string) string { return "/kubepods/besteffort/" + pod },
		dir:     func(pod string) string { return "/kubepods/besteffort/" + pod },
		member:  func(dir, id string) string { return dir + "/" + id },
		podless: func(id string) string { return "/k8s.io/" + id },
	}
)

// TestFlip: a driver that is set while pods of the other one run is taken when
// they are gone, and not before. Whatever is asked says the same.
func TestFlip(t *testing.T) {
	logOnFailure(t)
	t.Cleanup(func() {
		if err := os.Remove(driverSetting); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		restartDaemon(t)
	})
	setDriver(t, bySystemd)
	checkDriver(t, bySystemd)
	flip(t, bySystemd, byCgroupfs)
	flip(t, byCgroupfs, bySystemd)
}

// flip changes the driver under pods; on entry, from is the node's.
func flip(t *testing.T, from, to layout) {
	t.Helper()
	old := runPod(t, "old-"+from.driver, from.parent("podold"))
	members := []string{old.id, old.run(t, "before", nil, "sleep", "1000")}

	begun := len(daemon.wholeLog())
	setDriver(t, to)
	checkDriver(t, from)
	message := `driver = "` + to.driver + `" is set, but pods are running in`
	eventually(t, "the log tells why the driver stays", func() string {
		if text := daemon.wholeLog()[begun:]; !strings.Contains(text, strings.ReplaceAll(message, `"`, `\"`)) {
			return text
		}
		return ""
	})
	finding := doctorSays(t, "cgroup.driver")
	if finding.Status != "warn" || !strings.HasPrefix(finding.Message, from.driver+", as quoind decided") || !strings.Contains(finding.Fix, message) {
		t.Errorf("doctor says %+v, want a warning that begins with %s and a fix that says %q", finding, from.driver, message)
	}

	// The kubelet still thinks what it was told, and is right.
	members = append(members, old.run(t, "after", nil, "sleep", "1000"))
	more := runPod(t, "more-"+from.driver, from.parent("podmore"))
	checkMembers(t, from, from.dir("podold"), members...)
	checkMembers(t, from, from.dir("podmore"), more.id, more.run(t, "c", nil, "sleep", "1000"))
	checkPodless(t, from)

	old.remove(t)
	more.remove(t)
	restartDaemon(t)
	checkDriver(t, to)
	if finding := doctorSays(t, "cgroup.driver"); !strings.HasPrefix(finding.Message, to.driver+", as quoind decided") || finding.Fix != "" {
		t.Errorf("doctor says %+v, want %s and nothing to fix", finding, to.driver)
	}
	p := runPod(t, "new-"+to.driver, to.parent("podnew"))
	checkMembers(t, to, to.dir("podnew"), p.id, p.run(t, "c", nil, "sleep", "1000"))
	checkPodless(t, to)
	p.remove(t)
}

// setDriver writes the setting and restarts the daemon.
func setDriver(t *testing.T, to layout) {
	t.Helper()
	if err := writeFile(driverSetting, "version = 4\n[plugins.'io.quoin.node.v1.cgroupdriver']\n  driver = '"+to.driver+"'\n"); err != nil {
		t.Fatal(err)
	}
	restartDaemon(t)
}

func restartDaemon(t *testing.T) {
	t.Helper()
	ctx, cancel := after()
	defer cancel()
	if err := daemon.restart(ctx); err != nil {
		t.Fatal(err)
	}
	if err := awaitServing(ctx); err != nil {
		t.Fatal(err)
	}
}

// checkDriver asks the kubelet's way and ctr's.
func checkDriver(t *testing.T, want layout) {
	t.Helper()
	answer, err := runtime.RuntimeConfig(t.Context(), &cri.RuntimeConfigRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetLinux().GetCgroupDriver(); got != want.told {
		t.Errorf("RuntimeConfig says %v, want %v", got, want.told)
	}
	plugins, err := client.IntrospectionService().Plugins(inNamespace(t), `type==io.quoin.node.v1,id==cgroupdriver`)
	if err != nil || len(plugins.Plugins) != 1 {
		t.Fatalf("the plugin: %v, %v", plugins, err)
	}
	if got := plugins.Plugins[0].Exports["driver"]; got != want.driver {
		t.Errorf("the plugin exports %s, want %s", got, want.driver)
	}
}

func checkMembers(t *testing.T, by layout, dir string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		checkPlace(t, "a container of a pod", taskPID(t, kubernetes, id), by.member(dir, id))
	}
}

// checkPodless runs a pod as crictl does, which names no parent.
func checkPodless(t *testing.T, by layout) {
	t.Helper()
	p := runPod(t, "podless-"+by.driver, "")
	checkPlace(t, "a pod without a parent", taskPID(t, kubernetes, p.id), by.podless(p.id))
	p.remove(t)
}

// doctorSays asks `quoinctl doctor`, which may find whatever it wants elsewhere.
func doctorSays(t *testing.T, id string) nested.Finding {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "quoinctl", "doctor", "--json").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("quoinctl doctor: %v", err)
	}
	found, err := nested.Findings(out)
	if err != nil {
		t.Fatal(err)
	}
	finding, ok := found[id]
	if !ok {
		t.Fatalf("quoinctl doctor has no finding %q:\n%s", id, out)
	}
	return finding
}
