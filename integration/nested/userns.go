// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/integration/harness"
)

// Root is the user of the outside who is root in the user namespace; the users
// after it are the others there.
const Root = 100000

const users = 65536

// Rootless says how a quoind in a user namespace is started.
type Rootless struct {
	// Delegate moves the process, which waits, into the cgroup that it is to have
	// and returns the directory of that.
	Delegate func(pid int) (dir string)
	// Owned says that the cgroup stays with whom it belongs to.
	Owned bool
	// Systemd has systemd be process 1, with quoind as its unit; see Machine.
	Systemd bool
	// NoCgroupNamespace leaves out the cgroup namespace, and with it the mounting
	// of cgroup2 anew.
	NoCgroupNamespace bool
}

// delegated are the files of a cgroup that belong to whom it is delegated to, in
// the words of /sys/kernel/cgroup/delegate and systemd.
var delegated = []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}

// InUserNamespace starts the quoind of the place as rootless containerd is
// started: in user, mount, PID, network, IPC and UTS namespaces, with a cgroup
// that is given to its root, and a cgroup namespace below that.
func (p *Place) InUserNamespace(t testing.TB, r Rootless) *Inner {
	t.Helper()
	// Root cannot look for the product where only the machine's root may.
	if err := unix.Mount(harness.BinDir(), p.bin(), "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("show the product to the user namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(p.bin(), 0); err != nil {
			t.Errorf("hide the product again: %v", err)
		}
	})
	etc, first := "/etc", p.Run
	if r.Systemd {
		etc, first = p.machineEtc(t), asSystemd
	}
	cmd := exec.Command("/bin/sh", "-c", `read -r go; `+p.enter(r)+` "$@"`, "sh")
	cmd.Args = append(cmd.Args, first(p.prepare(r, etc))...)
	cmd.Env = append(os.Environ(), "PATH="+p.path(), "HOME="+p.run(), inContainer)
	cmd.Stderr = os.Stderr
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: Root, Size: users}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{Uid: 0, Gid: 0},
	}
	begin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start in a user namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it all of its PID namespace
		_ = cmd.Wait()
	})
	dir := r.Delegate(cmd.Process.Pid)
	for _, file := range delegated {
		if r.Owned {
			break
		}
		if err := os.Chown(filepath.Join(dir, file), Root, Root); err != nil {
			t.Fatalf("delegate %s: %v", dir, err)
		}
	}
	if _, err := fmt.Fprintln(begin); err != nil {
		t.Fatal(err)
	}
	return p.Connect(t, cmd.Process.Pid)
}

func (p *Place) enter(r Rootless) string {
	if r.NoCgroupNamespace {
		return "exec"
	}
	return "exec unshare --cgroup"
}

// asSystemd is Place.Run for a systemd.
func asSystemd(prepare string) []string {
	return append([]string{"/bin/sh", "-c", "set -e; " + prepare + "\nexec \"$@\"", "sh"}, Systemd...)
}

// prepare makes what differs from the machine: an empty /run, a proc of the PID
// namespace, the place's files in what is to be /etc.
func (p *Place) prepare(r Rootless, etc string) string {
	steps := []string{
		"mount -t tmpfs -o mode=755 tmpfs /run",
		"mkdir /run/quoind",
		"mount --bind " + p.run() + " /run/quoind",
		"mount -t proc proc /proc",
		"mount -t overlay -o lowerdir=" + filepath.Dir(p.etc()) + ":" + etc + ",userxattr overlay /etc",
		harness.BusyboxStatic.Path() + " ifconfig lo up",
	}
	if !r.NoCgroupNamespace {
		steps = append(steps,
			// The kernel mounts nothing on a mount of the same file system.
			"mount -t tmpfs tmpfs /sys/fs/cgroup",
			"mount -t cgroup2 cgroup2 /sys/fs/cgroup")
	}
	return strings.Join(steps, "\n")
}
