// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/ctr/commands"
	"github.com/containerd/containerd/v2/cmd/ctr/commands/run"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/urfave/cli/v3"
	"google.golang.org/grpc"

	"github.com/quoin-io/quoin/config"
)

// runcType is the only runtime for which ctr makes runc's options.
const runcType = "io.containerd.runc.v2"

// choose returns an action that is own for Quoin's runtime with an option for
// runc, and ctr's in every other case.
func choose(ctrs, own cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		runtime := cmd.String("runtime")
		ours := runtime == config.RuntimeType || filepath.Base(runtime) == config.ShimBinary
		asked := cmd.String("runc-binary") != "" || cmd.String("runc-root") != "" || cmd.Bool("runc-systemd-cgroup")
		if !ours || !asked {
			return ctrs(ctx, cmd)
		}
		if cmd.String("runtime-config-path") != "" {
			return errors.New("--runtime-config-path cannot be combined with --runc-binary, --runc-root or --runc-systemd-cgroup: put their settings into the file")
		}
		return own(ctx, cmd)
	}
}

// createWithRuncOptions is "containers create" for containers whose record
// carries runc's options under Quoin's name.
func createWithRuncOptions(ctx context.Context, cmd *cli.Command) error {
	if err := checkArgs(cmd); err != nil {
		return err
	}
	client, ctx, cancel, err := runcClient(ctx, cmd)
	if err != nil {
		return err
	}
	defer cancel()
	_, err = run.NewContainer(ctx, client, cmd)
	return err
}

// checkArgs wants an image and an id, or with --config an id alone.
func checkArgs(cmd *cli.Command) error {
	if cmd.IsSet("config") {
		if cmd.NArg() != 1 {
			return errors.New("with a spec config file (--config), provide the container id and nothing else")
		}
		return nil
	}
	if cmd.NArg() < 2 {
		return errors.New("an image ref and a container id must be provided")
	}
	return nil
}

// runcClient returns a client with which ctr's code builds a container of
// runc's type with all of runc's options, and which names it otherwise when it
// is created. So what the options mean, and which go together, is ctr's to say.
func runcClient(ctx context.Context, cmd *cli.Command) (*containerd.Client, context.Context, context.CancelFunc, error) {
	store := &renamingStore{name: cmd.String("runtime")}
	client, ctx, cancel, err := commands.NewClient(ctx, cmd, containerd.WithServices(containerd.WithContainerStore(store)))
	if err != nil {
		return nil, nil, nil, err
	}
	conn, ok := client.Conn().(grpc.ClientConnInterface)
	if !ok {
		cancel()
		return nil, nil, nil, fmt.Errorf("connection to the daemon is %T, not gRPC", client.Conn())
	}
	store.Store = containerd.NewRemoteContainerStore(containersapi.NewContainersClient(conn))
	if err := cmd.Set("runtime", runcType); err != nil {
		cancel()
		return nil, nil, nil, fmt.Errorf("preparing runc's options: %w", err)
	}
	return client, ctx, cancel, nil
}

// renamingStore is the daemon's store of containers; those that are created
// through it with runc's type get another.
type renamingStore struct {
	containers.Store
	name string
}

// Create stores the container under the store's runtime name.
func (s *renamingStore) Create(ctx context.Context, c containers.Container) (containers.Container, error) {
	if c.Runtime.Name == runcType {
		c.Runtime.Name = s.name
	}
	return s.Store.Create(ctx, c)
}
