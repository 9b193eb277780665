// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/pkg/timeout"
	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v3"
)

// configCommand stands in for containerd's, which prints containerd's defaults.
func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "Information on the quoind config",
		Commands: []*cli.Command{{
			Name:  "default",
			Usage: "See the output of the default config",
			Action: func(ctx context.Context, cmd *cli.Command) error {
				return printSettings(ctx, cmd.Root().Writer, request{})
			},
		}, {
			Name:   "dump",
			Usage:  "See the output of the final main config with imported in subconfig files",
			Action: dump,
		}, {
			Name:   "migrate",
			Usage:  "Migrate the current configuration file to the latest version (does not migrate subconfig files)",
			Action: dump,
		}},
	}
}

func dump(ctx context.Context, cmd *cli.Command) error {
	return printSettings(ctx, cmd.Root().Writer, requestOf(cmd))
}

// printSettings writes every setting there is, with the value that quoind would
// run with.
func printSettings(ctx context.Context, w io.Writer, req request) error {
	settings, err := resolve(ctx, req)
	if err != nil {
		return err
	}
	if err := complete(ctx, settings); err != nil {
		return err
	}
	if err := toml.NewEncoder(w).SetIndentTables(true).Encode(settings); err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	return nil
}

// complete adds what only the plugins and the table of timeouts know.
func complete(ctx context.Context, settings *srvconfig.Config) error {
	regs, err := server.LoadPlugins(ctx, settings)
	if err != nil {
		return fmt.Errorf("loading plugins: %w", err)
	}
	for _, r := range regs {
		if r.Config == nil {
			continue
		}
		decoded, err := settings.Decode(ctx, r.URI(), r.Config)
		if err != nil {
			return fmt.Errorf("settings of plugin %s: %w", r.URI(), err)
		}
		settings.Plugins[r.URI()] = decoded
	}
	for name, d := range timeout.All() {
		if settings.Timeouts[name] == "" {
			settings.Timeouts[name] = d.String()
		}
	}
	return nil
}
