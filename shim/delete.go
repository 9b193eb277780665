// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/bootstrap"
	"github.com/quoin-io/quoin/shim/bundle"
)

// runtimeRoot is where OCI runtimes keep their state, unless a task's options
// say otherwise: the runc shim's, so that either can clean up after the other.
const runtimeRoot = "/run/containerd/runc"

// delete ends what is left of a task whose shim is gone and prints how it ended.
// containerd runs it after every task's end; most often nothing is left to do. It
// fails while a process of the task is alive: then containerd keeps the bundle, and
// so refuses another task of that id.
func (c *command) delete(ctx context.Context) error {
	b, err := c.deletedBundle()
	if err != nil {
		return err
	}
	// The daemon ends it a little later, and then tells status 255 and a time that it
	// makes up.
	ctx, cancel := context.WithTimeout(ctx, config.CleanupLimit(os.Getenv(config.CleanupEnv)))
	defer cancel()
	d := c.newDeletion(ctx, b)
	defer d.close()
	exit, err := d.end(ctx)
	if err != nil {
		return err
	}
	unmounting, cancel := context.WithTimeout(ctx, unmountLimit)
	defer cancel()
	if err := b.UnmountRootfs(unmounting); err != nil {
		log.G(ctx).WithError(err).Warn("the container's mount is left")
	}
	if err := removeSocket(b); err != nil {
		log.G(ctx).WithError(err).Warn("remove the socket of the shim")
	}
	if err := d.tellEvents(ctx); err != nil {
		log.G(ctx).WithError(err).Warn("events of the shim are lost")
	}
	d.forget(ctx)
	reply, err := proto.Marshal(&task.DeleteResponse{
		Pid:        uint32(exit.Pid),
		ExitStatus: uint32(exit.Status),
		ExitedAt:   timestamppb.New(exit.At),
	})
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = c.stdout.Write(reply)
	return err
}

// unmountLimit is the part of a delete's time after which a mount that does not go
// is detached.
const unmountLimit = 2 * time.Second

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
