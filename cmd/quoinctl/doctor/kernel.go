// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

func realKernel() kernel {
	return kernel{statfs: statfs, entryTypes: entryTypes, idmap: idmap, pidfd: pidfd, subreaper: subreaper}
}

func statfs(dir string) (usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return usage{}, err
	}
	block := uint64(st.Bsize)
	return usage{size: st.Blocks * block, free: st.Bavail * block, inodes: st.Files, inodesFree: st.Ffree}, nil
}

// entryTypes looks at the entries that are there, to write nothing. Those for
// the directory itself and its parent have a type even where others have none.
func entryTypes(dir string) (typed, known bool, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, false, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n <= 0 {
			return false, false, err
		}
		for rest := buf[:n]; len(rest) > 0; {
			size := int(binary.NativeEndian.Uint16(rest[unsafe.Offsetof(unix.Dirent{}.Reclen):]))
			entry := rest[:size]
			rest = rest[size:]
			name := unix.ByteSliceToString(entry[unsafe.Offsetof(unix.Dirent{}.Name):])
			if name == "." || name == ".." {
				continue
			}
			return entry[unsafe.Offsetof(unix.Dirent{}.Type)] != unix.DT_UNKNOWN, true, nil
		}
	}
}

// idmap makes a copy of the mount that is attached nowhere, and maps its ids.
func idmap(dir string) error {
	userns, err := mount.GetUsernsFD("0:100000:1", "0:100000:1")
	if err != nil {
		return fmt.Errorf("make a user namespace: %w", err)
	}
	defer userns.Close()
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("copy the mount: %w", err)
	}
	defer unix.Close(fd)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set:  unix.MOUNT_ATTR_IDMAP,
		Userns_fd: uint64(userns.Fd()),
	})
	if err != nil {
		return fmt.Errorf("map the ids of the mount: %w", err)
	}
	return nil
}

func pidfd() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func subreaper() error {
	var on int32
	return unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&on)), 0, 0, 0)
}
