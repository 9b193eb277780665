// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// checkOverlay asks whether the kernel has overlayfs.
func checkOverlay(_ context.Context, w *world) Finding {
	text, err := w.read("/proc/filesystems")
	if err != nil {
		return warning("mount proc on /proc", "/proc/filesystems cannot be read: %v", err)
	}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[len(fields)-1] == "overlay" {
			return good("the kernel has it")
		}
	}
	release := w.line("/proc/sys/kernel/osrelease")
	modules, _ := w.read("/lib/modules/" + release + "/modules.dep")
	if strings.Contains(modules, "/overlay.ko") {
		return warning("modprobe overlay, and echo overlay > /etc/modules-load.d/quoin.conf", "the module is there, but not loaded")
	}
	return failure("boot a kernel with CONFIG_OVERLAY_FS, or use another snapshotter", "the kernel has none")
}

// fsMount is the mount that a directory lies on.
type fsMount struct {
	dir, point, kind, options, superOptions string
}

// mountOf finds the mount of a directory that need not exist yet.
func (w *world) mountOf(dir string) (fsMount, error) {
	text, err := w.read("/proc/self/mountinfo")
	if err != nil {
		return fsMount{}, fmt.Errorf("/proc/self/mountinfo: %w", err)
	}
	dir = w.existing(dir)
	mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(text), mountinfo.ParentsFilter(dir))
	if err != nil {
		return fsMount{}, fmt.Errorf("/proc/self/mountinfo: %w", err)
	}
	found := fsMount{dir: dir}
	for _, m := range mounts {
		if len(m.Mountpoint) >= len(found.point) { // the last of several on one point
			found = fsMount{dir, m.Mountpoint, m.FSType, m.Options, m.VFSOptions}
		}
	}
	if found.point == "" {
		return fsMount{}, fmt.Errorf("no mount holds %s", dir)
	}
	return found, nil
}

// What file systems do under overlayfs's upper directory.
var (
	carryOverlay = []string{"ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "ext3", "ext2"}
	inMemory     = []string{"tmpfs", "ramfs"}
	cannotCarry  = []string{"overlay", "nfs", "nfs4", "cifs", "smb3", "vfat", "exfat", "msdos", "ecryptfs", "squashfs", "erofs", "iso9660"}
)

// checkFilesystem looks at what holds the images and the containers' layers.
func checkFilesystem(_ context.Context, w *world) Finding {
	m, err := w.mountOf(w.place.Root)
	if err != nil {
		return warning("mount proc on /proc", "the file system of %s is not known: %v", w.place.Root, err)
	}
	fix := fmt.Sprintf("put %s on ext4 or xfs (mount a disk there, or set root in quoind's configuration)", w.place.Root)
	f := good("%s on %s", m.kind, m.point)
	switch {
	case slices.Contains(strings.Split(m.options, ","), "ro"), slices.Contains(strings.Split(m.superOptions, ","), "ro"):
		f = failure(fix, "%s lies on %s (%s), which is read-only", w.place.Root, m.point, m.kind)
	case slices.Contains(cannotCarry, m.kind):
		f = failure(fix, "%s lies on %s (%s), which cannot be overlayfs's upper layer", w.place.Root, m.point, m.kind)
	case slices.Contains(inMemory, m.kind):
		f = warning(fix, "%s lies on %s (%s): images and layers take memory and do not survive a reboot", w.place.Root, m.point, m.kind)
	case !slices.Contains(carryOverlay, m.kind):
		f = warning(fix, "%s lies on %s (%s), which is not known to carry overlayfs", w.place.Root, m.point, m.kind)
	}
	return f.with("path", w.place.Root).with("mount", m.point).with("type", m.kind)
}

// checkEntryTypes asks for d_type, without which overlayfs cannot hide files.
func checkEntryTypes(_ context.Context, w *world) Finding {
	fix := fmt.Sprintf("put %s on a file system made with it (mkfs.xfs -n ftype=1, mkfs.ext4 -O filetype)", w.place.Root)
	dirs := []string{w.existing(w.place.Root)}
	if m, err := w.mountOf(w.place.Root); err == nil {
		dirs = append(dirs, m.point) // where there is an entry to look at, if not there
	}
	denied := false
	for _, dir := range dirs {
		typed, known, err := w.kernel.entryTypes(w.at(dir))
		denied = denied || errors.Is(err, fs.ErrPermission)
		if err != nil || !known {
			continue
		}
		if typed {
			return good("directories tell the types of their entries").with("d_type", true)
		}
		return failure(fix, "the file system of %s does not have it: deleted files would come back", w.place.Root).with("d_type", false)
	}
	if denied {
		return warning(asRoot, "%s cannot be read", w.place.Root)
	}
	return warning("start quoind once, then run quoinctl doctor again", "not known: there is no file to look at in %s", w.place.Root)
}

// idmapMajor and idmapMinor are since when overlayfs takes idmapped layers.
const idmapMajor, idmapMinor = 5, 19

// checkIdmap tries what pods with a user namespace (hostUsers: false) need.
func checkIdmap(_ context.Context, w *world) Finding {
	release := w.line("/proc/sys/kernel/osrelease")
	major, minor, ok := kernelVersion(release)
	if ok && (major < idmapMajor || major == idmapMajor && minor < idmapMinor) {
		return warning(fmt.Sprintf("boot Linux %d.%d or newer, if pods are to have user namespaces", idmapMajor, idmapMinor),
			"overlayfs takes none before Linux %d.%d", idmapMajor, idmapMinor).with("supported", false)
	}
	if w.euid != 0 {
		return warning(asRoot, "not tried: only root may")
	}
	dir := w.existing(w.place.Root)
	if err := w.kernel.idmap(w.at(dir)); err != nil {
		return warning("put root on ext4, xfs or btrfs, and allow user namespaces, if pods are to have them",
			"cannot be made of %s: %v", dir, err).with("supported", false)
	}
	return good("can be made of %s", dir).with("supported", true)
}

// quotaOptions are by which mounts say that they count by project.
var quotaOptions = []string{"prjquota", "pquota"}

// checkQuota tells whether writable layers can be limited. Nothing needs it, so
// there is nothing to warn of.
func checkQuota(_ context.Context, w *world) Finding {
	m, err := w.mountOf(w.place.Root)
	if err != nil {
		return warning("mount proc on /proc", "not known: %v", err)
	}
	on := false
	for option := range strings.SplitSeq(m.superOptions, ",") {
		on = on || slices.Contains(quotaOptions, option)
	}
	f := good("on")
	switch {
	case on:
	case m.kind != "ext4" && m.kind != "xfs":
		f = good("none on %s: the size of writable layers cannot be limited", m.kind)
	case !w.exists("/proc/sys/fs/quota") && !w.exists("/proc/fs/xfs"):
		f = good("the kernel is built without: the size of writable layers cannot be limited")
	default:
		f = good("off: the size of writable layers cannot be limited unless a kernel with CONFIG_QFMT_V2 mounts %s with prjquota", m.point)
	}
	return f.with("enabled", on)
}

func checkRootSpace(_ context.Context, w *world) Finding {
	// Where the kubelet begins to delete images, and to evict.
	return w.space(w.place.Root, levels{warn: 15, fail: 5, inodesWarn: 5, inodesFail: 1, floor: 1 << 30},
		"remove images that nothing uses (crictl rmi --prune), or make the file system larger")
}

func checkStateSpace(_ context.Context, w *world) Finding {
	return w.space(w.place.State, levels{warn: 10, fail: 2, inodesWarn: 5, inodesFail: 1, floor: 16 << 20},
		"see what fills it (du -x); a tmpfs can be made larger: mount -o remount,size=…")
}

// levels are per cent that should be free, and bytes that must.
type levels struct {
	warn, fail, inodesWarn, inodesFail uint64
	floor                              uint64
}

func (w *world) space(dir string, l levels, fix string) Finding {
	at := w.existing(dir)
	u, err := w.kernel.statfs(w.at(at))
	if err != nil || u.size == 0 {
		if errors.Is(err, unix.EACCES) {
			return warning(asRoot, "%s cannot be looked at", at)
		}
		return warning("look at "+at, "the file system of %s does not tell its size: %v", at, err)
	}
	free := u.free * 100 / u.size
	message := fmt.Sprintf("%s free (%d%%)", bytesText(u.free), free)
	inodes := uint64(100)
	if u.inodes > 0 { // btrfs and others make them as needed
		inodes = u.inodesFree * 100 / u.inodes
		message += fmt.Sprintf(", %d%% of inodes free", inodes)
	}
	f := good("%s, for %s", message, dir)
	switch {
	case free < l.fail || u.free < l.floor || inodes < l.inodesFail:
		f = failure(fix, "only %s, for %s", message, dir)
	case free < l.warn || inodes < l.inodesWarn:
		f = warning(fix, "only %s, for %s", message, dir)
	}
	return f.with("path", dir).with("size", u.size).with("free", u.free).with("inodes", u.inodes).with("inodes_free", u.inodesFree)
}

func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
