// SPDX-License-Identifier: Apache-2.0

package harness

// Bed is the arrangement of cgroup hierarchies that a daemon and all it starts
// can see. Every bed but the native one is made in a mount namespace of the
// daemon's own.
type Bed string

const (
	// Native is what the machine has.
	Native Bed = "native"
	// CgroupV1 hides the cgroup2 mount of a hybrid machine: crun 1.8.1 does
	// not run where it sees both.
	CgroupV1 Bed = "v1"
	// CgroupV2 shows nothing but a cgroup2 mount. On a hybrid machine it has
	// few controllers, so it proves paths and not limits.
	CgroupV2 Bed = "v2"
)

// command wraps argv so that it starts in the bed.
func (b Bed) command(argv ...string) []string {
	var change string
	switch b {
	case CgroupV1:
		change = `if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi`
	case CgroupV2:
		change = `mount -t cgroup2 cgroup2 /sys/fs/cgroup`
	default:
		return argv
	}
	return append([]string{
		"unshare", "--mount", "--propagation", "private",
		"sh", "-c", "set -e; " + change + `; exec "$0" "$@"`,
	}, argv...)
}
