// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
)

const shimsDescription = `
The shims of a daemon, quoind or stock containerd, are found by the bundles in its
state directory: the directory of its socket (--address), unless --state says
otherwise. The daemon is not asked and need not run. All containerd namespaces are
looked at, unless --namespace names one.`

// shimsCommand returns "shims". Its parent has ctr's global flags.
func shimsCommand() *cli.Command {
	return &cli.Command{
		Name:        "shims",
		Usage:       "Look at shims and upgrade them",
		Description: shimsDescription,
		Commands:    []*cli.Command{shimsListCommand(), shimsUpgradeCommand()},
	}
}

// stateFlag is common to the commands below "shims".
func stateFlag() cli.Flag {
	return &cli.StringFlag{Name: "state", Usage: "State `directory` of the daemon (default: the directory of its socket)"}
}

// findShims returns the shims that a command below "shims" is about. An error
// may come beside some: of bundles that cannot be read.
func findShims(cmd *cli.Command) ([]shims.Shim, error) {
	state := cmd.String("state")
	if state == "" {
		state = filepath.Dir(cmd.String("address"))
	}
	found, err := shims.Find(state)
	if err != nil {
		err = fmt.Errorf("looking for shims: %w (--state names the daemon's state directory)", err)
	}
	if cmd.IsSet("namespace") {
		found = slices.DeleteFunc(found, func(s shims.Shim) bool { return s.Namespace != cmd.String("namespace") })
	}
	return found, err
}
