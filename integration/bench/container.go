// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/quoin-io/quoin/integration/harness"
)

// importImage gives the daemon the busybox image that the tests use.
func (s *subject) importImage(ctx context.Context) error {
	ctx = s.context(ctx)
	image, err := harness.Busybox()
	if err != nil {
		return err
	}
	tag, err := name.NewTag(harness.BusyboxRef)
	if err != nil {
		return fmt.Errorf("image name: %w", err)
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(tarball.Write(tag, image, writer)) }()
	defer reader.Close() // ends the writer when the import gave up
	images, err := s.client.Import(ctx, reader)
	if err != nil {
		return fmt.Errorf("import %s: %w", tag, err)
	}
	if len(images) != 1 {
		return fmt.Errorf("import %s: %d images instead of one", tag, len(images))
	}
	s.image = containerd.NewImage(s.client, images[0])
	if err := s.image.Unpack(ctx, ""); err != nil {
		return fmt.Errorf("unpack %s: %w", tag, err)
	}
	return nil
}

// newContainer makes a container with its snapshot and without a task.
func (s *subject) newContainer(ctx context.Context, id string, args ...string) (containerd.Container, error) {
	container, err := s.client.NewContainer(s.context(ctx), id,
		containerd.WithImage(s.image),
		containerd.WithNewSnapshot(id, s.image),
		containerd.WithRuntime(s.runtimeType, &runcoptions.Options{BinaryName: s.runtime.binary}),
		containerd.WithNewSpec(oci.WithImageConfig(s.image), oci.WithProcessArgs(args...), s.ociVersion))
	if err != nil {
		return nil, fmt.Errorf("%s: new container %s: %w", s.name, id, err)
	}
	return container, nil
}

func (s *subject) ociVersion(_ context.Context, _ oci.Client, _ *containers.Container, spec *oci.Spec) error {
	if s.runtime.ociVersion != "" {
		spec.Version = s.runtime.ociVersion
	}
	return nil
}

func (s *subject) removeContainer(ctx context.Context, c containerd.Container) error {
	if err := c.Delete(s.context(ctx), containerd.WithSnapshotCleanup); err != nil {
		return fmt.Errorf("%s: delete container %s: %w", s.name, c.ID(), err)
	}
	return nil
}

// sleeper is a container whose process waits for a signal.
type sleeper struct {
	subject   *subject
	container containerd.Container
	task      containerd.Task
}

// startSleeper starts a container that does nothing until it is killed.
func (s *subject) startSleeper(ctx context.Context, id string, creator cio.Creator) (*sleeper, error) {
	container, err := s.newContainer(ctx, id, "sleep", "1000000")
	if err != nil {
		return nil, err
	}
	ctx = s.context(ctx)
	task, err := container.NewTask(ctx, creator)
	if err != nil {
		return nil, fmt.Errorf("%s: create %s: %w", s.name, id, err)
	}
	if err := task.Start(ctx); err != nil {
		return nil, fmt.Errorf("%s: start %s: %w", s.name, id, err)
	}
	return &sleeper{s, container, task}, nil
}

// shim is the pid of the process that serves the container: the parent of its
// init. It must be the variant's shim, or the figures would be another's.
func (p *sleeper) shim() (int, error) {
	init, ok := harness.FindProcess(int(p.task.Pid()))
	if !ok {
		return 0, fmt.Errorf("%s: %s has no process %d", p.subject.name, p.task.ID(), p.task.Pid())
	}
	exe, err := os.Readlink(filepath.Join("/proc", fmt.Sprint(init.Parent), "exe"))
	if err != nil {
		return 0, fmt.Errorf("%s: which shim serves %s: %w", p.subject.name, p.task.ID(), err)
	}
	if exe != p.subject.shim {
		return 0, fmt.Errorf("%s: %s is served by %s and not by %s", p.subject.name, p.task.ID(), exe, p.subject.shim)
	}
	return init.Parent, nil
}

// remove kills the process and deletes the task and the container.
func (p *sleeper) remove(ctx context.Context) error {
	_, err := p.task.Delete(p.subject.context(ctx), containerd.WithProcessKill)
	if err != nil {
		err = fmt.Errorf("%s: delete the task %s: %w", p.subject.name, p.task.ID(), err)
	}
	return errors.Join(err, p.subject.removeContainer(ctx, p.container))
}

// fifoIO gives a process FIFOs whose other ends this program reads, as every
// container has that somebody logs.
func fifoIO() cio.Creator {
	return cio.NewCreator(cio.WithStreams(nil, io.Discard, io.Discard), cio.WithFIFODir("/run/fifo"))
}
