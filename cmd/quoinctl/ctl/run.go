// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/console"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/ctr/commands"
	"github.com/containerd/containerd/v2/cmd/ctr/commands/run"
	"github.com/containerd/containerd/v2/cmd/ctr/commands/tasks"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	gocni "github.com/containerd/go-cni"
	"github.com/containerd/log"
	"github.com/urfave/cli/v3"
)

// runner is one "run": a container, its task and what surrounds it.
type runner struct {
	cmd       *cli.Command
	client    *containerd.Client
	container containerd.Container
	task      containerd.Task
	console   console.Console // nil without --tty
	network   gocni.CNI       // nil without --cni
}

// runWithRuncOptions is "run" for containers whose record carries runc's
// options under Quoin's name. ctr's own action cannot be told to make one, so
// this one is made of the parts that ctr exports.
func runWithRuncOptions(ctx context.Context, cmd *cli.Command) error {
	if err := checkArgs(cmd); err != nil {
		return err
	}
	detach, remove := cmd.Bool("detach"), cmd.Bool("rm")
	if detach && remove {
		return errors.New("flags --detach and --rm cannot be specified together")
	}
	client, ctx, cancel, err := runcClient(ctx, cmd)
	if err != nil {
		return err
	}
	defer cancel()

	r := &runner{cmd: cmd, client: client}
	if r.container, err = run.NewContainer(ctx, client, cmd); err != nil {
		return err
	}
	if remove {
		defer func() {
			if err := r.container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
				log.L.WithError(err).Error("failed to cleanup container")
			}
		}()
	}
	if err := r.dumpSpec(ctx); err != nil {
		return err
	}
	if cmd.Bool("tty") {
		r.console = console.Current()
		defer r.console.Reset()
		if err := r.console.SetRaw(); err != nil {
			return fmt.Errorf("setting up the terminal: %w", err)
		}
	}
	if err := r.create(ctx); err != nil {
		return err
	}
	if detach {
		return r.start(ctx)
	}
	defer r.cleanup(ctx)
	return r.attend(ctx)
}

// dumpSpec writes the container's spec where --dump-config says.
func (r *runner) dumpSpec(ctx context.Context) error {
	if !r.cmd.IsSet("dump-config") {
		return nil
	}
	spec, err := r.container.Spec(ctx)
	if err != nil {
		return fmt.Errorf("reading the container's spec: %w", err)
	}
	text, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the container's spec: %w", err)
	}
	return os.WriteFile(r.cmd.String("dump-config"), text, 0o666)
}

func (r *runner) create(ctx context.Context) error {
	var err error
	if r.cmd.Bool("cni") {
		if r.network, err = gocni.New(gocni.WithDefaultConf); err != nil {
			return fmt.Errorf("loading the CNI configuration: %w", err)
		}
	}
	r.task, err = tasks.NewTask(ctx, r.client, r.container, "", r.console, r.cmd.Bool("null-io"), r.cmd.String("log-uri"),
		[]cio.Opt{cio.WithFIFODir(r.cmd.String("fifo-dir"))}, tasks.GetNewTaskOpts(r.cmd)...)
	return err
}

// start connects the network, so that it is there before the first
// instruction of the container, and starts the task.
func (r *runner) start(ctx context.Context) error {
	if r.cmd.IsSet("pid-file") {
		if err := commands.WritePidFile(r.cmd.String("pid-file"), int(r.task.Pid())); err != nil {
			return fmt.Errorf("writing the pid file: %w", err)
		}
	}
	if r.network != nil {
		netns := fmt.Sprintf("/proc/%d/ns/net", r.task.Pid())
		if _, err := r.network.Setup(ctx, commands.FullID(ctx, r.container), netns); err != nil {
			return fmt.Errorf("setting up the network: %w", err)
		}
	}
	return r.task.Start(ctx)
}

// attend starts the task, follows it to its end, and exits as it did.
func (r *runner) attend(ctx context.Context) error {
	exited, err := r.task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	if r.console != nil {
		if err := tasks.HandleConsoleResize(ctx, r.task, r.console); err != nil {
			log.L.WithError(err).Error("console resize")
		}
	} else {
		signals := commands.ForwardAllSignals(ctx, r.task)
		defer commands.StopCatch(signals)
	}
	status := <-exited
	code, _, err := status.Result()
	if err != nil {
		return err
	}
	if _, err := r.task.Delete(ctx); err != nil {
		return err
	}
	if code != 0 {
		return cli.Exit("", int(code))
	}
	return nil
}

// cleanup removes what is left of the task, whatever became of it.
func (r *runner) cleanup(ctx context.Context) {
	if r.network != nil {
		if err := r.network.Remove(ctx, commands.FullID(ctx, r.container), ""); err != nil {
			log.L.WithError(err).Error("failed to remove network")
		}
	}
	if _, err := r.task.Delete(ctx, containerd.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
		log.L.WithError(err).Error("failed to cleanup task")
	}
}
