// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	"github.com/urfave/cli/v3"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins" // containerd's own plugins
)

// App returns the daemon's command line.
func App() (*cli.Command, error) {
	app := command.App()
	app.Name = "quoind"
	return app, nil
}
