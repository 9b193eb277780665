// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"
)

const description = `
Looks at the init system, cgroups, the kubelet, quoind and its programs, storage,
the modes of files, and kernel limits, and says of each what is in order (ok), what
may become a problem (warn), what does not work (fail), and the one thing to do. It
changes nothing. As root it sees all; otherwise, and without a running quoind, it
says what it could not see or computed itself. It asks the daemon at --address, or
where quoind's configuration says it is.

The exit code is 1 if anything failed, else 0. What --json prints is documented in
the package cmd/quoinctl/doctor: an object with schema, version, verdict, counts and
findings, each with id, group, title, status, message, fix and facts.`

// Command returns "doctor". Its parent has the flag --address.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "doctor",
		Usage:       "Say what is wrong with this node, and what to do about it",
		Description: description,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "Print one JSON object instead of text"},
		},
		Action: act,
	}
}

func act(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		return fmt.Errorf("doctor takes no arguments, but got %q", cmd.Args().First())
	}
	address := ""
	if cmd.IsSet("address") {
		address = cmd.String("address")
	}
	h, err := realHost(address)
	if err != nil {
		return err
	}
	report := examine(ctx, h)
	out := cmd.Root().Writer
	if cmd.Bool("json") {
		err = report.writeJSON(out)
	} else {
		err = report.writeText(screenOf(out, os.Getenv))
	}
	if err != nil {
		return fmt.Errorf("print the findings: %w", err)
	}
	if report.Verdict == Fail {
		return cli.Exit("", 1)
	}
	return nil
}
