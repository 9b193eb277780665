// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Systemd is the command line of a systemd that is process 1 of a container and
// starts quoind as a unit; see Machine.
var Systemd = []string{"/usr/lib/systemd/systemd", "--unit=nested.target"}

// nestedTarget has systemd start nothing but what quoind needs.
const nestedTarget = `[Unit]
Description=A quoind in a container
Requires=basic.target dbus.service quoind.service
After=basic.target dbus.service quoind.service
`

// quoindDropIn has quoind log where Place looks.
const quoindDropIn = `[Service]
StandardError=append:%s
`

// notInside are files of the machine's /etc that a container must not follow.
var notInside = []string{"fstab", "hostname", "mtab"}

// inContainer is how systemd learns that it is not the machine's.
const inContainer = "container=oci"

// Machine is Container for one whose process 1 is Systemd: with the machine's own
// /etc, where quoind.service is installed, of which the container has a copy.
func (p *Place) Machine(t testing.TB) []oci.SpecOpts {
	t.Helper()
	etc := p.machineEtc(t)
	below := func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		// Before the other mounts in /etc. What is in the read-only /sys is not
		// udev's business, and so udev does not start.
		i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/etc/hosts" })
		s.Mounts = slices.Insert(s.Mounts, i, bind(etc, "/etc"))
		for i, m := range s.Mounts {
			if m.Destination == "/sys" {
				s.Mounts[i].Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "rw" }), "ro")
			}
		}
		return nil
	}
	return append(p.Container(), oci.WithEnv([]string{inContainer}), below)
}

// machineEtc makes the copy of /etc for a systemd inside and returns its name.
func (p *Place) machineEtc(t testing.TB) string {
	t.Helper()
	etc := filepath.Join(p.dir, "machine-etc")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("copy /etc: %v: %s", err, out)
	}
	for _, name := range notInside {
		if err := os.RemoveAll(filepath.Join(etc, name)); err != nil {
			t.Fatal(err)
		}
	}
	units := filepath.Join(etc, "systemd", "system")
	for name, text := range map[string]string{
		"nested.target":                nestedTarget,
		"quoind.service.d/nested.conf": fmt.Sprintf(quoindDropIn, p.log()),
	} {
		file := filepath.Join(units, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return etc
}
