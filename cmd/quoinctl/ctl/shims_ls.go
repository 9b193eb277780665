// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
)

// answerWithin is how long a shim may take to tell about itself.
const answerWithin = 2 * time.Second

const shimsListDescription = `
Lists the shims, sorted by namespace and id. The id is that of the pod's sandbox, or
of the only container. STATUS is

  ok       the shim has told about itself
  stuck    it did not answer in time: it is stopped, or hangs
  foreign  it is not Quoin's, or older than this command
  gone     no process listens at its socket; the daemon cleans up after it
  failed   it answered with an error

Of a shim that is stuck or foreign, PID, MEMORY and UPTIME are the kernel's words.
MEMORY is private memory; --wide adds more. --json prints an array of objects, whose
keys are only ever added to. The exit code is 0 whatever the shims' status.`

func shimsListCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Aliases:     []string{"ls"},
		Usage:       "List shims: pod, version, pid, memory, containers, uptime",
		Description: shimsListDescription,
		Flags: []cli.Flag{
			stateFlag(),
			&cli.BoolFlag{Name: "json", Usage: "Print a JSON array instead of text"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Print ids only"},
			&cli.BoolFlag{Name: "wide", Aliases: []string{"w"}, Usage: "Print whole ids, and more columns"},
			&cli.DurationFlag{Name: "answer-within", Usage: "Call a shim stuck that takes longer to answer", Value: answerWithin},
		},
		Action: listShims,
	}
}

func listShims(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		return fmt.Errorf("shims list takes no arguments, but got %q", cmd.Args().First())
	}
	asked := 0
	for _, name := range []string{"json", "quiet", "wide"} {
		if cmd.Bool(name) {
			asked++
		}
	}
	if asked > 1 {
		return errors.New("--json, --quiet and --wide exclude one another")
	}
	found, err := findShims(cmd)
	if err != nil && len(found) == 0 {
		return err
	}
	rows := shimRows(shims.Ask(ctx, found, cmd.Duration("answer-within")), time.Now())
	if perr := printShims(cmd.Root().Writer, cmd, rows); perr != nil {
		return fmt.Errorf("print the shims: %w", perr)
	}
	return err // of bundles that could not be read
}

func printShims(w io.Writer, cmd *cli.Command, rows []shimRow) error {
	switch {
	case cmd.Bool("json"):
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	case cmd.Bool("quiet"):
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	return shimTable(w, rows, cmd.Bool("wide"))
}
