// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts are what can be seen of the host without asking anybody.
type Facts struct {
	// Mode is the cgroup mode of the mount namespace.
	Mode Mode
	// Controllers are those that can be used, sorted: of all v1 hierarchies,
	// or the cgroup.controllers of our own cgroup2.
	Controllers []string
	// SystemdDir says that /run/systemd/system is a directory: sd_booted(3).
	SystemdDir bool
	// InitComm is the name of process 1 of our PID namespace.
	InitComm string
	// InitForeign says that process 1 belongs to a user namespace above ours.
	InitForeign bool
	// UserNamespace says that we are not in the initial user namespace.
	UserNamespace bool
	// Path is our own cgroup, relative to our cgroup namespace: that of
	// cgroup2, or of the name=systemd hierarchy; "" if there is neither.
	Path string
	// Delegated says that we may make cgroups below our own.
	Delegated bool
	// Barred says that we may not make cgroups at the top of the hierarchy that
	// we see, where the paths of containers begin.
	Barred bool
	// Nested says that this top is the root of a cgroup namespace and not the
	// kernel's: cgroup v2 has no processes beside limited cgroups there.
	Nested bool
	// BootID identifies the boot; "" when the kernel does not say.
	BootID string
}

// SystemdRuns reports whether a systemd can be expected to make scopes for us.
// In a container the directory may be that of the host. So systemd must be
// process 1 of our own PID namespace: another knows our processes by other
// numbers, and would move strangers in their place. In a user namespace it must
// also be one of that namespace. systemd gives itself its name, whatever file it
// was started from.
func (f Facts) SystemdRuns() bool {
	return f.SystemdDir && f.InitComm == systemdComm && !f.InitForeign
}

const systemdComm = "systemd"

// Node returns what Translate needs. configured is the node's driver as it was
// told (DriverEnv, or the SystemdCgroup option of runc); Unset means to go by
// the facts.
func (f Facts) Node(configured Driver) Node {
	n := Node{Driver: configured, Systemd: f.SystemdRuns()}
	if n.Driver == Unset {
		n.Driver = Cgroupfs
		if n.Systemd {
			n.Driver = Systemd
		}
	}
	return n
}

// Probe looks at the host. Every path is taken below root, which is "" for the
// real one. It fails only when the mounts or our own cgroup cannot be read.
func Probe(root string) (Facts, error) {
	mounts, mode, err := readMounts(root)
	if err != nil {
		return Facts{}, err
	}
	members, err := readMemberships(root, "self")
	if err != nil {
		return Facts{}, fmt.Errorf("find our own cgroup: %w", err)
	}
	f := ProbeInit(root)
	f.Mode = mode
	f.BootID = readLine(root + "/proc/sys/kernel/random/boot_id")
	own := ownCgroup(members, mode == Unified)
	f.Path = own.path
	f.Nested = mode == Unified && namespaceTop(mounts) != ""
	f.Barred = barred(mounts, mode)
	dir, ok := lookup(mounts, own)
	f.Delegated = ok && unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil &&
		unix.Access(dir, unix.W_OK) == nil
	f.Controllers = controllers(mounts, mode, dir)
	return f, nil
}

// ProbeInit looks only at the init system: a few small files. It fills in
// SystemdDir, InitComm, InitForeign and UserNamespace.
func ProbeInit(root string) Facts {
	st, err := os.Lstat(root + "/run/systemd/system")
	f := Facts{
		SystemdDir:    err == nil && st.IsDir(),
		InitComm:      readLine(root + "/proc/1/comm"),
		UserNamespace: inUserNamespace(readLine(root + "/proc/self/uid_map")),
	}
	f.InitForeign = f.UserNamespace && foreign(root, "1")
	return f
}

// foreign compares the user namespace of a process with ours. The kernel does
// not show that of a process that belongs to a namespace above.
func foreign(root, pid string) bool {
	own, err := os.Readlink(root + "/proc/self/ns/user")
	if err != nil {
		return false
	}
	other, err := os.Readlink(root + "/proc/" + pid + "/ns/user")
	return err != nil || other != own
}

// barred looks at the tops of the hierarchies in use.
func barred(mounts []mount, mode Mode) bool {
	for _, m := range mounts {
		dir, ok := m.dir("/")
		if !ok || m.v2 != (mode == Unified) {
			continue
		}
		switch unix.Access(dir, unix.W_OK) {
		case unix.EACCES, unix.EPERM, unix.EROFS:
			return true
		}
	}
	return false
}

// inUserNamespace looks at the first line of uid_map: only the initial
// namespace maps every id to itself.
func inUserNamespace(line string) bool {
	return line != "" && !slices.Equal(strings.Fields(line), []string{"0", "0", "4294967295"})
}

// ownCgroup picks the membership that tells most: in cgroup2 where only that is
// mounted (unified), whatever hierarchies the kernel has beside.
func ownCgroup(members []membership, unified bool) membership {
	for _, m := range members {
		if len(m.controllers) == 0 && (unified || m.path != "/" || len(members) == 1) {
			return m
		}
	}
	for _, m := range members {
		if slices.Contains(m.controllers, "name=systemd") {
			return m
		}
	}
	if len(members) == 0 {
		return membership{}
	}
	return members[0]
}

func controllers(mounts []mount, mode Mode, own string) []string {
	var out []string
	if mode == Unified {
		return slices.Sorted(strings.FieldsSeq(readLine(filepath.Join(own, "cgroup.controllers"))))
	}
	for _, m := range mounts {
		for _, name := range m.controllers {
			if !strings.HasPrefix(name, "name=") {
				out = append(out, name)
			}
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return slices.Compact(out)
}

// readLine returns the first line of a small file, "" when it cannot.
func readLine(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}
