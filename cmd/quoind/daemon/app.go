// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/cmd/containerd/command"
	ctrdversion "github.com/containerd/containerd/v2/version"
	"github.com/urfave/cli/v3"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins" // containerd's own plugins

	"github.com/quoin-io/quoin/config"
)

const usage = "containerd with Quoin's plugins compiled in"

const description = `
quoind is a containerd daemon. Without a command it runs in the foreground. It
reads /etc/quoind/config.toml where that exists, which is containerd's format
and overrides the defaults that "quoind config default" prints. It shares no
directory and no socket with a containerd on the same machine.

The Quoin shim and runc are found in PATH, else beside quoind, else (runc) in
../libexec/quoin from there. A runc in PATH with known container escapes gives
way to the one that came with quoind.`

// App returns quoind's command line, with its plugins registered. Call it once
// in a process: the registry of plugins is global to containerd.
func App() (*cli.Command, error) {
	if err := assemble(); err != nil {
		return nil, fmt.Errorf("assembling plugins: %w", err)
	}
	app := command.App()
	app.Name = "quoind"
	app.Usage = usage
	app.Description = description
	app.Version = fmt.Sprintf("%s, containerd %s", config.VersionText(), ctrdversion.Version)
	for _, f := range app.Flags {
		if f, ok := f.(*cli.StringFlag); ok && f.Name == "config" {
			f.Value = config.DefaultDaemon().Config
		}
	}
	for i, sub := range app.Commands {
		if sub.Name == "config" {
			app.Commands[i] = configCommand()
		}
	}
	app.Action = serve(app.Action)
	return app, nil
}

// serve wraps containerd's action: it runs with the settings that quoind works
// out, which containerd reads as its configuration file.
func serve(run cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Args().Present() {
			return run(ctx, cmd) // an unknown command: it shows the help
		}
		if os.Getpid() == 1 {
			return beInit(ctx)
		}
		settings, err := resolve(ctx, requestOf(cmd))
		if err != nil {
			return err
		}
		file, err := publish(settings)
		if err != nil {
			return fmt.Errorf("handing the configuration to containerd: %w", err)
		}
		defer file.Close()
		if err := cmd.Set("config", fmt.Sprintf("/proc/self/fd/%d", file.Fd())); err != nil {
			return fmt.Errorf("handing the configuration to containerd: %w", err)
		}
		if err := extendPath(ctx); err != nil {
			return err
		}
		return run(ctx, cmd)
	}
}
