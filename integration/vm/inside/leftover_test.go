// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
)

// runtimeBinary are a task's options that name an OCI runtime; nil for "".
func runtimeBinary(path string) any {
	if path == "" {
		return nil
	}
	return &options.Options{BinaryName: path}
}

// failedScope leaves a scope that has failed, as systemd keeps it until somebody
// takes note.
func failedScope(t *testing.T, name string) {
	t.Helper()
	// It ends with its time, by a signal.
	_ = exec.CommandContext(t.Context(), "systemd-run", "--scope", "--quiet", "--unit="+name, "--property=RuntimeMaxSec=1s", "sleep", "1000").Run()
	eventually(t, name+" has failed", func() string {
		if state := systemctl(t, "show", "--property=ActiveState", "--value", name); state != "failed" {
			return state
		}
		return ""
	})
	t.Cleanup(func() { _ = exec.Command("systemctl", "reset-failed", name).Run() }) // most often it is gone
}

// TestLeftoverScope: a failed scope of the name that a container's has is no
// obstacle.
func TestLeftoverScope(t *testing.T) {
	logOnFailure(t)
	name := id(t, "c")
	failedScope(t, "left-"+name+".scope")
	c := start(t, name, []string{"sleep", "1000"}, oci.WithCgroup("system.slice:left:"+name))
	checkPlace(t, name, c.pid(), "/system.slice/left-"+name+".scope")
	c.kill(t)
	remove(t, name)
	checkNoTraces(t, name, true)
}

// TestCarelessRuntime: an OCI runtime that says it has made the container, and
// has left its process in the daemon's cgroup, has failed. runc did so before
// 1.1.6 where a unit of the name was there already.
func TestCarelessRuntime(t *testing.T) {
	logOnFailure(t)
	pid, err := daemon.pid()
	if err != nil {
		t.Fatal(err)
	}
	const careless = "/usr/local/bin/careless-runc"
	script := `#!/bin/sh
/usr/local/libexec/quoin/runc "$@" || exit
case " $* " in *" create "*) ;; *) exit;; esac
while [ "$1" != --pid-file ]; do shift; done
cat "$2" >/sys/fs/cgroup/system.slice/quoind.service/cgroup.procs
`
	if err := os.WriteFile(careless, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	name := id(t, "c")
	c := define(t, name, careless, oci.WithCgroup("system.slice:careless:"+name))
	err = newTask(inNamespace(t), c)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "left in the cgroup /system.slice/quoind.service and is not in the unit careless-"+name+".scope") {
		t.Errorf("create: %v", err)
	}
	checkNoTraces(t, name, true)
	checkAtHome(t, pid)
}

// TestLeftoverShimScope: a failed scope of the name that a shim's own has is
// dismissed.
func TestLeftoverShimScope(t *testing.T) {
	logOnFailure(t)
	dir := t.TempDir()
	// A process whose number is known before it becomes the shim.
	cmd := exec.Command("sh", "-c", `read -r _ && exec containerd-shim-quoin-v1 -namespace vm -id leftover -address /run/quoind/quoind.sock -socket "$1"`, "sh", dir+"/s")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "QUOIN_SHIM_SLICE=system.slice", "GOMAXPROCS=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	scope := "quoin-shim-leftover-" + strconv.Itoa(pid) + ".scope"
	failedScope(t, scope)
	if _, err := stdin.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shim is in its scope", func() string {
		if at := cgroupOf(t, pid); at != "/system.slice/"+scope {
			return at
		}
		return ""
	})
	checkPlace(t, "the shim", pid, "/system.slice/"+scope)
	// Nobody connects: it ends by itself.
	for s := bufio.NewScanner(stderr); s.Scan(); {
		t.Log(s.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	checkNoTraces(t, scope, true)
}

// TestOldRunc: a runc of the machine's with known escapes is not used, unless a
// container's options name it.
func TestOldRunc(t *testing.T) {
	logOnFailure(t)
	const old = "/usr/local/sbin/runc"
	script := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo runc version 1.1.5; exit; fi\nexit 1\n"
	if err := os.WriteFile(old, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(old); err != nil {
			t.Error(err)
		}
		restartDaemon(t)
	})
	begun := len(daemon.wholeLog())
	restartDaemon(t)
	start(t, id(t, "c"), []string{"sleep", "1000"}, oci.WithCgroup("system.slice:old:"+id(t, "c")))
	if text := daemon.wholeLog()[begun:]; strings.Count(text, "is used in place of "+old) != 1 {
		t.Errorf("the log does not tell once which runc is used:\n%s", text)
	}
	if f := doctorSays(t, "programs.runtime.runc"); f.Status != "ok" || !strings.Contains(f.Message, "which quoind uses in place of "+old) {
		t.Errorf("doctor says %+v", f)
	}
	if err := newTask(inNamespace(t), define(t, id(t, "named"), old)); err == nil || !strings.Contains(err.Error(), old) {
		t.Errorf("with the old one's name: %v", err)
	}
}
