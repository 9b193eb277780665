// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sys/unix"
)

const sigterm = unix.SIGTERM

// cycle makes a container, starts it, kills it and removes it.
func cycle(ctx context.Context, n int) (retErr error) {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, namespace), patience)
	defer cancel()
	variant := variants[n%len(variants)]
	binary := binaries()[n/len(variants)%len(binaries())]
	name := fmt.Sprintf("leak-%d", n)
	image, err := client.GetImage(ctx, busyboxRef)
	if err != nil {
		return err
	}
	specs := []oci.SpecOpts{oci.WithImageConfigArgs(image, variant.args), oci.WithCgroup(variant.path + name)}
	if variant.host {
		specs = append(specs, hostPID())
	}
	c, err := client.NewContainer(ctx, name, containerd.WithImage(image), containerd.WithNewSnapshot(name, image),
		withRuntime(binary), containerd.WithNewSpec(specs...))
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, c.Delete(ctx, containerd.WithSnapshotCleanup)) }()
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return err
	}
	defer func() {
		_, err := task.Delete(ctx, containerd.WithProcessKill)
		retErr = errors.Join(retErr, err)
	}()
	exit, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return err
	}
	if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case status := <-exit:
		if code := status.ExitCode(); code != 137 {
			return fmt.Errorf("exit code %d", code)
		}
		return status.Error()
	case <-time.After(patience):
		return errors.New("it does not exit")
	}
}
