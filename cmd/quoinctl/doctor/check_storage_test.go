// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestStorage(t *testing.T) {
	const overlay, filesystem, dType, idmaps, quota = "storage.overlay", "storage.filesystem", "storage.d_type", "storage.idmap", "storage.quota"
	const mounts, release = "/proc/self/mountinfo", "/proc/sys/kernel/osrelease"
	on := func(kind, options, super string) map[string]string {
		return file(mounts, healthy[mounts]+"50 20 8:2 / /var/lib "+options+" - "+kind+" /dev/sdb "+super+"\n")
	}
	measured := func(u usage) func(*testing.T, fixture) {
		return func(_ *testing.T, f fixture) { f.kernel.statfs = func(string) (usage, error) { return u, nil } }
	}
	types := func(typed, known bool, err error) func(*testing.T, fixture) {
		return func(_ *testing.T, f fixture) {
			f.kernel.entryTypes = func(string) (bool, bool, error) { return typed, known, err }
		}
	}
	const gib = 1 << 30
	for name, s := range map[string]scenario{
		"built in":   {id: overlay, want: OK},
		"not loaded": {id: overlay, files: file("/proc/filesystems", "\text4\n", "/lib/modules/6.12.5-amd64/modules.dep", "kernel/fs/overlayfs/overlay.ko.xz:\n"), want: Warn, fix: "modprobe overlay"},
		"none":       {id: overlay, files: file("/proc/filesystems", "\text4\n"), want: Fail, fix: "CONFIG_OVERLAY_FS"},
		"no proc":    {id: overlay, files: file("/proc/filesystems", gone), want: Warn},

		"ext4":      {id: filesystem, want: OK, message: "ext4 on /"},
		"xfs":       {id: filesystem, files: on("xfs", "rw", "rw"), want: OK, message: "xfs on /var/lib"},
		"overlay":   {id: filesystem, files: on("overlay", "rw", "rw"), want: Fail, message: "upper layer", fix: "ext4 or xfs"},
		"nfs":       {id: filesystem, files: on("nfs4", "rw", "rw"), want: Fail},
		"tmpfs":     {id: filesystem, files: on("tmpfs", "rw", "rw"), want: Warn, message: "reboot"},
		"strange":   {id: filesystem, files: on("fuse.x", "rw", "rw"), want: Warn, message: "not known"},
		"read-only": {id: filesystem, files: on("ext4", "ro,relatime", "rw"), want: Fail, message: "read-only"},
		"ro device": {id: filesystem, files: on("ext4", "rw", "ro"), want: Fail, message: "read-only"},
		"elsewhere": {id: filesystem, alone: true, files: both(on("tmpfs", "rw", "rw"), file("/etc/quoind/config.toml", "root = '/srv/q'\n")), want: OK, message: "ext4 on /"},
		"a link":    {id: filesystem, alone: true, files: both(file(mounts, healthy[mounts]+"50 20 8:2 / /data rw - xfs /dev/sdb rw\n"), file("/data/q/", "0700", "/var/lib/quoind/", gone, "/var/lib/quoind", "-> ../../data/q")), want: OK, message: "xfs on /data"},

		"typed":     {id: dType, want: OK},
		"untyped":   {id: dType, change: types(false, true, nil), want: Fail, fix: "ftype=1"},
		"empty":     {id: dType, change: types(false, false, nil), want: Warn, message: "no file to look at"},
		"forbidden": {id: dType, change: types(false, false, unix.EACCES), want: Warn, fix: "as root"},

		"works":    {id: idmaps, want: OK},
		"old":      {id: idmaps, files: file(release, "5.15.0\n"), want: Warn, message: "5.19", fix: "boot"},
		"refused":  {id: idmaps, change: func(_ *testing.T, f fixture) { f.kernel.idmap = func(string) error { return errFake } }, want: Warn, message: "fake"},
		"not root": {id: idmaps, change: func(_ *testing.T, f fixture) { f.euid = 1000 }, want: Warn, fix: "as root"},

		"on":        {id: quota, want: OK, message: "on"},
		"off":       {id: quota, files: on("xfs", "rw", "rw,noquota"), want: OK, message: "unless a kernel with CONFIG_QFMT_V2 mounts /var/lib with prjquota"},
		"btrfs":     {id: quota, files: on("btrfs", "rw", "rw"), want: OK, message: "none on btrfs"},
		"not built": {id: quota, files: both(on("ext4", "rw", "rw"), file("/proc/sys/fs/quota/", gone)), want: OK, message: "built without"},

		"enough": {id: "storage.root", want: OK, message: "60.0 GiB free (60%), 90% of inodes free"},
		"little": {id: "storage.root", change: measured(usage{size: 100 * gib, free: 14 * gib}), want: Warn, message: "14.0 GiB", fix: "remove images"},
		"no":     {id: "storage.root", change: measured(usage{size: 100 * gib, free: 4 * gib}), want: Fail},
		"tiny":   {id: "storage.root", change: measured(usage{size: 2 * gib, free: gib / 2}), want: Fail, message: "512.0 MiB"},
		"inodes": {id: "storage.root", change: measured(usage{size: 100 * gib, free: 50 * gib, inodes: 1000, inodesFree: 40}), want: Warn, message: "4% of inodes"},
		"no inodes": {id: "storage.root", change: measured(usage{size: 100 * gib, free: 50 * gib, inodes: 1000, inodesFree: 4}),
			want: Fail},
		"btrfs inodes": {id: "storage.root", change: measured(usage{size: 100 * gib, free: 50 * gib}), want: OK},
		"unmeasured":   {id: "storage.root", change: measured(usage{}), want: Warn, message: "does not tell"},
		"state":        {id: "storage.state", want: OK, message: "for /run/quoind"},
		"state little": {id: "storage.state", change: measured(usage{size: gib, free: gib / 20}), want: Warn, fix: "du -x"},
		"state full":   {id: "storage.state", change: measured(usage{size: gib, free: 512}), want: Fail, message: "512 B"},
	} {
		check1(t, name, s)
	}
}
