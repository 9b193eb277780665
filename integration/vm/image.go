// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// imageDeadline bounds the making of the root, most of which is downloading.
const imageDeadline = 15 * time.Minute

// image is a root that boots: root.img, vmlinuz and initrd in a directory.
type image struct{ dir string }

func (i image) root() string   { return filepath.Join(i.dir, "root.img") }
func (i image) kernel() string { return filepath.Join(i.dir, "vmlinuz") }
func (i image) initrd() string { return filepath.Join(i.dir, "initrd") }

// rootImage returns the root, made now if it is not in the cache. Roots of
// other checksums are removed: each takes most of a gigabyte.
func rootImage(ctx context.Context, repository, cache string) (image, error) {
	script := filepath.Join(repository, "integration", "vm", "rootfs.sh")
	text, err := os.ReadFile(script)
	if err != nil {
		return image{}, fmt.Errorf("read what makes the root: %w", err)
	}
	cache, err = filepath.Abs(cache)
	if err != nil {
		return image{}, fmt.Errorf("find the cache: %w", err)
	}
	unlock, err := lockCache(ctx, cache)
	if err != nil {
		return image{}, err
	}
	defer unlock()
	done := image{filepath.Join(cache, fmt.Sprintf("root-%.8x", sha256.Sum256(text)))}
	if _, err := os.Stat(done.dir); err == nil {
		return done, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return image{}, fmt.Errorf("look for the root: %w", err)
	}
	if err := removeRoots(cache); err != nil {
		return image{}, err
	}
	// Complete or not there: it is made beside its place and then renamed.
	partial := done.dir + ".partial"
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return image{}, fmt.Errorf("make a directory for the root: %w", err)
	}
	note("making the machine's root: about two minutes, once")
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, imageDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, script, partial)
	// All of it ends with us, and cleans up: mmdebstrap has mounts.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return image{}, fmt.Errorf("make the machine's root: %w\n%s", err, out)
	}
	if err := os.Rename(partial, done.dir); err != nil {
		return image{}, fmt.Errorf("keep the root: %w", err)
	}
	note("made the root in %v", time.Since(begun).Round(time.Second))
	return done, nil
}

// lockCache waits until no other process makes a root.
func lockCache(ctx context.Context, cache string) (unlock func(), err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // which unlocks it
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock the cache: %w", err), f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another process to make the root: %w", ctx.Err()), f.Close())
		}
	}
}

func removeRoots(cache string) error {
	old, err := filepath.Glob(filepath.Join(cache, "root-*"))
	if err != nil {
		return fmt.Errorf("look for older roots: %w", err)
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an older root: %w", err)
		}
	}
	return nil
}
