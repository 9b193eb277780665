// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"path/filepath"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// Container returns what makes of a busybox container one in which a quoind can
// run: privileged, in a cgroup namespace, with cgroups that it may write, the
// machine's programs and libraries, and the place.
func (p *Place) Container() []oci.SpecOpts {
	mounts := []specs.Mount{
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"rw", "nosuid", "noexec", "nodev"}},
		{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=755"}},
		bind(p.dir, p.dir),
		bind(p.run(), config.DefaultDaemon().State),
		bind(p.hosts(), "/etc/hosts"),
		bind(p.etc(), filepath.Dir(config.DefaultDaemon().Config)),
		bind(harness.BinDir(), p.bin()),
		bind("/usr", "/usr"), bind("/usr/lib", "/lib"), bind("/usr/lib64", "/lib64"),
	}
	return []oci.SpecOpts{
		oci.WithPrivileged,
		oci.WithAllDevicesAllowed,
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.CgroupNamespace}),
		oci.WithEnv([]string{"PATH=" + p.path()}),
		oci.WithoutRunMount,
		oci.WithMounts(mounts),
	}
}

func bind(from, to string) specs.Mount {
	return specs.Mount{Destination: to, Type: "bind", Source: from, Options: []string{"rbind", "rprivate"}}
}

// Run returns the command line of a process 1 that prepares the namespaces by a
// script, runs quoind and reaps what is orphaned. One that is Alone executes
// quoind in its own stead.
func (p *Place) Run(prepare string) []string {
	return []string{"/bin/sh", "-c", "set -e; " + prepare + "\n" + p.serve() + " || exit $?\n: keeps the shell"}
}

// Alone is Run for a quoind that is process 1 itself.
func (p *Place) Alone(prepare string) []string {
	return []string{"/bin/sh", "-c", "set -e; " + prepare + "\nexec " + p.serve()}
}

func (p *Place) serve() string { return "quoind >>" + p.log() + " 2>&1" }

// Shown adds a directory of the machine to a container, where it has it.
func Shown(dir string) oci.SpecOpts { return oci.WithMounts([]specs.Mount{bind(dir, dir)}) }
