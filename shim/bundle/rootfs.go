// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// detachGrace bounds the attempt to take a mount out of the way that does not go.
const detachGrace = 2 * time.Second

// MountRootfs mounts the root filesystem at RootfsPath, and makes that directory.
// When ctx ends first, its error is returned: a mount waits for as long as its
// source does not answer. If it succeeds after all, it is undone.
func (b *Bundle) MountRootfs(ctx context.Context, mounts []mount.Mount) error {
	target := b.RootfsPath()
	if err := os.Mkdir(target, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the mount point of the rootfs: %w", err)
	}
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- mount.All(mounts, target) }()
	select {
	case err := <-done:
		if err != nil {
			return errors.Join(fmt.Errorf("mount the rootfs: %w", err), mount.UnmountRecursive(target, 0))
		}
		return nil
	case <-ctx.Done():
	}
	go func() {
		err := errors.Join(<-done, mount.UnmountAll(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
		log.L.WithError(err).WithField("rootfs", target).Warn("a mount that was given up has returned, and was undone")
	}()
	return overdue(ctx, "mount the rootfs "+describe(mounts), begun)
}

// describe names what is mounted, for an error.
func describe(mounts []mount.Mount) string {
	last := mounts[len(mounts)-1]
	return fmt.Sprintf("(%s from %q)", last.Type, last.Source)
}

func overdue(ctx context.Context, what string, begun time.Time) error {
	return fmt.Errorf("%s: not done after %s: %w", what, time.Since(begun).Round(time.Millisecond), ctx.Err())
}

// UnmountRootfs unmounts what is mounted at RootfsPath, if anything is. When ctx
// ends first, the mount is detached, so that the bundle can be removed: the kernel
// lets go of it when whatever keeps it does.
func (b *Bundle) UnmountRootfs(ctx context.Context) error {
	target, begun := b.RootfsPath(), time.Now()
	done := make(chan error, 1)
	go func() { done <- unmount(target) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("unmount the rootfs: %w", err)
		}
		return nil
	case <-ctx.Done():
	}
	late := overdue(ctx, "unmount the rootfs", begun)
	detached := make(chan error, 1)
	go func() { detached <- unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }()
	timer := time.NewTimer(detachGrace)
	defer timer.Stop()
	select {
	case err := <-detached:
		if err == nil || err == unix.EINVAL { // EINVAL: it is gone
			log.L.WithError(late).WithField("rootfs", target).Warn("the rootfs was detached")
			return nil
		}
		return errors.Join(late, fmt.Errorf("detach the rootfs: %w", err))
	case <-timer.C:
		return late
	}
}

// unmount is quick where it can be: most often there is one mount, and the table of
// all mounts of the node need not be read.
func unmount(target string) error {
	switch err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err {
	case unix.EINVAL, unix.ENOENT: // nothing is mounted there
		return nil
	case nil:
		if unix.Unmount(target, unix.UMOUNT_NOFOLLOW) == unix.EINVAL {
			return nil
		}
	}
	return mount.UnmountRecursive(target, 0)
}
