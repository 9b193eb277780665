// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/bundle"
	"github.com/quoin-io/quoin/shim/ledger"
	"github.com/quoin-io/quoin/shim/oci"
)

// runtimeRoot is where OCI runtimes keep their state, unless a task's options
// say otherwise: the runc shim's, so that either can clean up after the other.
const runtimeRoot = "/run/containerd/runc"

// plainChildren runs commands in a process that is no subreaper.
type plainChildren struct{}

func (plainChildren) Start(cmd *exec.Cmd) error { return cmd.Start() }
func (plainChildren) Wait(cmd *exec.Cmd) error  { return cmd.Wait() }

// delete ends what is left of a task whose shim is gone and prints how it ended.
// containerd runs it after every task's end; most often nothing is left to do.
func (c *command) delete(ctx context.Context) error {
	b, err := c.deletedBundle()
	if err != nil {
		return err
	}
	if err := c.endContainer(ctx, b); err != nil {
		// The rest can still be cleaned up, and the status be told.
		log.G(ctx).WithError(err).Warn("remove the container from the OCI runtime")
	}
	endedAt := time.Now()
	if err := unmount(b.RootfsPath()); err != nil {
		log.G(ctx).WithError(err).Warn("unmount the rootfs")
	}
	if err := removeSocket(b); err != nil {
		log.G(ctx).WithError(err).Warn("remove the socket of the shim")
	}
	reply, err := proto.Marshal(lastWords(ctx, b, endedAt))
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = c.stdout.Write(reply)
	return err
}

// deletedBundle finds the bundle: containerd runs delete in a bundle whose
// sibling it may be.
func (c *command) deletedBundle() (*bundle.Bundle, error) {
	if err := bundle.CheckID(c.id); err != nil {
		return nil, fmt.Errorf("the flag -id: %w", err)
	}
	path := c.bundle
	if path == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("find the bundle: %w", err)
		}
		path = filepath.Join(filepath.Dir(dir), c.id)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the bundle: %w", err)
	}
	return bundle.Open(path)
}

// endContainer removes the container from the OCI runtime, if it is still there:
// after an orderly delete it is not, and no runtime is run.
func (c *command) endContainer(ctx context.Context, b *bundle.Bundle) error {
	opts, err := b.ReadOptions()
	if err != nil {
		return err
	}
	root := opts.Root
	if root == "" {
		root = runtimeRoot
	}
	root = filepath.Join(root, c.namespace)
	if _, err := os.Lstat(filepath.Join(root, c.id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	runtime, err := oci.New(oci.Config{
		Binary:        opts.BinaryName,
		Root:          root,
		SystemdCgroup: opts.SystemdCgroup,
		Bundle:        b.Path(),
		Deadlines:     deadlines(ctx),
		Children:      plainChildren{},
	})
	if err != nil {
		return err
	}
	if err := runtime.Delete(ctx, c.id, true); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// unmount reads the table of mounts only when there is a mount that does not go
// at once.
func unmount(target string) error {
	switch err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err {
	case unix.EINVAL, unix.ENOENT: // nothing is mounted there
		return nil
	default:
		return mount.UnmountRecursive(target, 0)
	}
}

// removeSocket removes the socket of a shim that was killed.
func removeSocket(b *bundle.Bundle) error {
	address, err := bootstrap.BundleAddress(b.Path())
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return bootstrap.RemoveDead(address)
}

// lastWords is the recorded exit. Without a record the shim died first, and what
// is told is that the container was killed, now.
func lastWords(ctx context.Context, b *bundle.Bundle, endedAt time.Time) *task.DeleteResponse {
	e, err := ledger.Read(b.Path())
	if err == nil {
		return &task.DeleteResponse{Pid: uint32(e.Pid), ExitStatus: uint32(e.Status), ExitedAt: timestamppb.New(e.At)}
	}
	if !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Warn("read the exit record")
	}
	return &task.DeleteResponse{
		Pid:        readPid(b.InitPidPath()),
		ExitStatus: 128 + uint32(unix.SIGKILL),
		ExitedAt:   timestamppb.New(endedAt),
	}
}

func readPid(path string) uint32 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 31)
	if err != nil {
		return 0
	}
	return uint32(pid)
}
