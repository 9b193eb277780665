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
	// InitComm is the name of process 1.
	InitComm string
	// UserNamespace says that we are not in the initial user namespace.
	UserNamespace bool
	// Path is our own cgroup, relative to our cgroup namespace: that of
	// cgroup2, or of the name=systemd hierarchy; "" if there is neither.
	Path string
	// Delegated says that we may make cgroups below our own.
	Delegated bool
	// BootID identifies the boot; "" when the kernel does not say.
	BootID string
}

// SystemdRuns reports whether a systemd can be expected to make scopes for us.
// In a user namespace the directory may be that of the host, so systemd must
// be process 1 there.
func (f Facts) SystemdRuns() bool {
	return f.SystemdDir && (!f.UserNamespace || f.InitComm == "systemd")
}

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
	data, err := os.ReadFile(root + "/proc/self/cgroup")
	if err != nil {
		return Facts{}, fmt.Errorf("find our own cgroup: %w", err)
	}
	members, err := parseMemberships(string(data))
	if err != nil {
		return Facts{}, fmt.Errorf("find our own cgroup: %w", err)
	}
	f := ProbeInit(root)
	f.Mode = mode
	f.BootID = readLine(root + "/proc/sys/kernel/random/boot_id")
	own := ownCgroup(members)
	f.Path = own.path
	dir, ok := lookup(mounts, own)
	f.Delegated = ok && unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil &&
		unix.Access(dir, unix.W_OK) == nil
	f.Controllers = controllers(mounts, mode, dir)
	return f, nil
}

// ProbeInit looks only at the init system: three small files. It fills in
// SystemdDir, InitComm and UserNamespace.
func ProbeInit(root string) Facts {
	st, err := os.Lstat(root + "/run/systemd/system")
	return Facts{
		SystemdDir:    err == nil && st.IsDir(),
		InitComm:      readLine(root + "/proc/1/comm"),
		UserNamespace: inUserNamespace(readLine(root + "/proc/self/uid_map")),
	}
}

// inUserNamespace looks at the first line of uid_map: only the initial
// namespace maps every id to itself.
func inUserNamespace(line string) bool {
	return line != "" && !slices.Equal(strings.Fields(line), []string{"0", "0", "4294967295"})
}

func ownCgroup(members []membership) membership {
	for _, m := range members {
		if len(m.controllers) == 0 && (m.path != "/" || len(members) == 1) {
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
