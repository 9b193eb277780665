// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
	"github.com/quoin-io/quoin/shim/control"
)

// upgradeSlack is how long an upgrade may take beside the wait for the shim to come
// to rest: the checks of the binary, and its start.
const upgradeSlack = time.Minute

const shimsUpgradeDescription = `
Has shims go on as another binary, in place: the process, its containers, their
streams and everybody's connections stay. ID is the one that "shims ls" shows or that
of any of the shim's containers, or a beginning of it that no other shim has.

The binary is the one at --to or, without it, the one that is now at the path of the
binary that a shim runs: what an update of the package has put there. It is run once
to see whether it can take over. What it cannot take over from, and a shim that does
not come to rest within --rest, goes on as it was; the cause is shown. If the binary
fails only after it was executed, the old one goes on in another process.

A line is printed for each shim as soon as it is done. The exit code is 1 if one
failed. Shims that are not Quoin's, or gone, are no failure with --all.`

func shimsUpgradeCommand() *cli.Command {
	return &cli.Command{
		Name:        "upgrade",
		Usage:       "Have running shims go on as another binary, without a restart of containers",
		ArgsUsage:   "[ID...]",
		Description: shimsUpgradeDescription,
		Flags: []cli.Flag{
			stateFlag(),
			&cli.BoolFlag{Name: "all", Usage: "Upgrade all shims"},
			&cli.StringFlag{Name: "to", Usage: "`PATH` of the new binary (default: the path of the old one)"},
			&cli.DurationFlag{Name: "rest", Usage: "How long a shim may take to finish what it is doing", Value: 10 * time.Second},
			&cli.IntFlag{Name: "parallel", Usage: "How many shims are upgraded at a time", Value: 4},
			&cli.BoolFlag{Name: "json", Usage: "Print a JSON array at the end instead of lines"},
			&cli.DurationFlag{Name: "answer-within", Usage: "Call a shim stuck that takes longer to answer", Value: answerWithin},
		},
		Action: upgradeShims,
	}
}

// upgradeRow is what came of one shim; as JSON, it is the command's interface.
type upgradeRow struct {
	Namespace string `json:"namespace"`
	ID        string `json:"id"`
	Pod       string `json:"pod,omitempty"`
	// Result is upgraded, failed or skipped.
	Result string         `json:"result"`
	Error  string         `json:"error,omitempty"`
	From   *control.Build `json:"from,omitempty"`
	To     *control.Build `json:"to,omitempty"`
	PID    int            `json:"pid,omitempty"`
	// Seconds that it took.
	Seconds float64 `json:"seconds"`
}

const (
	upgraded = "upgraded"
	failed   = "failed"
	skipped  = "skipped"
)

func upgradeShims(ctx context.Context, cmd *cli.Command) error {
	ids := cmd.Args().Slice()
	switch {
	case cmd.Bool("all") == (len(ids) > 0):
		return errors.New("name shims, or all of them with --all, but not both")
	case cmd.Int("parallel") < 1:
		return errors.New("--parallel must be at least 1")
	}
	request := control.UpgradeRequest{Path: cmd.String("to"), Deadline: cmd.Duration("rest")}
	if request.Path != "" {
		var err error
		if request.Path, err = filepath.Abs(request.Path); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
	}
	found, err := findShims(cmd)
	if err != nil && len(found) == 0 {
		return err
	}
	if len(ids) > 0 {
		if found, err = pickShims(found, ids); err != nil {
			return err
		}
	}
	u := upgrader{request: request, named: len(ids) > 0, total: len(found)}
	if !cmd.Bool("json") {
		u.lines = cmd.Root().Writer
	}
	u.run(ctx, shims.Ask(ctx, found, cmd.Duration("answer-within")), int(cmd.Int("parallel")))
	if perr := u.summary(cmd); perr != nil {
		return fmt.Errorf("print what came of it: %w", perr)
	}
	if n := u.count(failed); n > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d shims were not upgraded", n, u.total))
	}
	return err // of bundles that could not be read
}

// pickShims returns the shims that serve the ids, each once.
func pickShims(all []shims.Shim, ids []string) ([]shims.Shim, error) {
	var picked []shims.Shim
	for _, id := range ids {
		serves := func(match func(string) bool) []shims.Shim {
			var some []shims.Shim
			for _, s := range all {
				if match(s.Identify().ID) || slices.ContainsFunc(s.Bundles, func(b shims.Bundle) bool { return match(b.ID) }) {
					some = append(some, s)
				}
			}
			return some
		}
		some := serves(func(have string) bool { return have == id })
		if len(some) == 0 {
			some = serves(func(have string) bool { return strings.HasPrefix(have, id) })
		}
		switch len(some) {
		case 0:
			return nil, fmt.Errorf("no shim serves a container %q; `quoinctl shims ls` lists them", id)
		case 1:
		default:
			return nil, fmt.Errorf("%d shims serve a container %q: use --namespace, or more of the id", len(some), id)
		}
		if !slices.ContainsFunc(picked, func(s shims.Shim) bool { return s.Address == some[0].Address }) {
			picked = append(picked, some[0])
		}
	}
	return picked, nil
}

// upgrader upgrades shims and tells of each.
type upgrader struct {
	request control.UpgradeRequest
	named   bool // the shims were asked for one by one
	total   int
	lines   io.Writer // nil for none

	mu   sync.Mutex
	rows []upgradeRow
	err  error // of lines
}

// run upgrades so many at a time. After ctx has ended no further one is begun.
func (u *upgrader) run(ctx context.Context, reports []shims.Report, parallel int) {
	slots := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for _, r := range reports {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			begun := time.Now()
			row := u.upgrade(ctx, r)
			row.Seconds = time.Since(begun).Seconds()
			u.done(row)
		})
	}
	all.Wait()
}

func (u *upgrader) upgrade(ctx context.Context, r shims.Report) upgradeRow {
	who := r.Identify()
	row := upgradeRow{Namespace: r.Namespace, ID: who.ID, Pod: who.Pod, Result: failed}
	switch {
	case ctx.Err() != nil:
		row.Error = ctx.Err().Error()
		return row
	case r.Status == shims.OK:
	case !u.named && (r.Status == shims.Foreign || r.Status == shims.Gone):
		row.Result, row.Error = skipped, string(r.Status)
		return row
	default:
		row.Error = fmt.Sprintf("%s: %v", r.Status, r.Err)
		return row
	}
	ctx, cancel := context.WithTimeout(ctx, u.request.Deadline+upgradeSlack)
	defer cancel()
	response, err := upgradeShim(ctx, r.Address, u.request)
	if err != nil {
		row.Error = err.Error()
		return row
	}
	row.Result, row.From, row.To, row.PID = upgraded, &response.From, &response.To, response.PID
	return row
}

func upgradeShim(ctx context.Context, address string, r control.UpgradeRequest) (control.UpgradeResponse, error) {
	c, err := control.Dial(ctx, address)
	if err != nil {
		return control.UpgradeResponse{}, err
	}
	defer c.Close()
	return c.Upgrade(ctx, r)
}

// done notes what came of a shim and prints its line.
func (u *upgrader) done(row upgradeRow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rows = append(u.rows, row)
	if u.lines == nil {
		return
	}
	width := len(fmt.Sprint(u.total))
	line := fmt.Sprintf("[%*d/%d] %s/%s %s", width, len(u.rows), u.total, row.Namespace, shortID(row.ID), row.Result)
	switch row.Result {
	case upgraded:
		line += fmt.Sprintf(": %s -> %s, pid %d, %.1fs", buildName(row.From), buildName(row.To), row.PID, row.Seconds)
	default:
		line += ": " + row.Error
	}
	_, err := fmt.Fprintln(u.lines, line)
	u.err = errors.Join(u.err, err)
}

func buildName(b *control.Build) string {
	if b.Revision == "" {
		return b.Version
	}
	return b.Version + " (" + b.Revision + ")"
}

func (u *upgrader) count(result string) int {
	n := 0
	for _, r := range u.rows {
		if r.Result == result {
			n++
		}
	}
	return n
}

func (u *upgrader) summary(cmd *cli.Command) error {
	if u.lines != nil {
		_, err := fmt.Fprintf(u.lines, "%d upgraded, %d failed, %d skipped\n", u.count(upgraded), u.count(failed), u.count(skipped))
		return errors.Join(u.err, err)
	}
	slices.SortFunc(u.rows, func(a, b upgradeRow) int {
		return strings.Compare(a.Namespace+"/"+a.ID, b.Namespace+"/"+b.ID)
	})
	if u.rows == nil {
		u.rows = []upgradeRow{}
	}
	enc := json.NewEncoder(cmd.Root().Writer)
	enc.SetIndent("", "  ")
	return enc.Encode(u.rows)
}
