// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

// consoleLines are enough for what a kernel prints of its tasks in a panic.
const consoleLines = 4000

// runBeds runs the beds, as many at once as the settings say, each to its end,
// and says whether a test failed. A bed that breaks off takes no other with it;
// its runs are reported as failed.
func (s settings) runBeds(ctx context.Context, dir string, root image, cargo string, plans []wire.Plan) (failed bool, err error) {
	s.out = &lines{out: s.out}
	var group errgroup.Group
	group.SetLimit(max(1, s.atOnce))
	failures, errs := make([]bool, len(plans)), make([]error, len(plans))
	for i, plan := range plans {
		group.Go(func() error {
			failures[i], errs[i] = s.runBed(ctx, filepath.Join(dir, plan.Bed), root, cargo, plan)
			return nil
		})
	}
	_ = group.Wait() // what each returned is in errs
	return slices.Contains(failures, true), errors.Join(errs...)
}

func (s settings) runBed(ctx context.Context, dir string, root image, cargo string, plan wire.Plan) (failed bool, err error) {
	c := &conversion{plan: plan, goCommand: s.goCommand, out: s.out}
	defer func() {
		if err != nil {
			err = fmt.Errorf("bed %s: %w", plan.Bed, errors.Join(err, c.breakOff(err)))
		}
	}()
	if ctx.Err() != nil {
		return true, context.Cause(ctx)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return true, fmt.Errorf("make its directory: %w", err)
	}
	m, err := s.start(ctx, dir, plan.Bed, root, cargo)
	if err != nil {
		return true, err
	}
	if err := s.watch(m, c); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return true, err
	}
	return c.failed, nil
}

// watch follows a machine to its end. One that breaks off is killed, and what it
// said last is shown.
func (s settings) watch(m *machine, c *conversion) error {
	err := s.follow(m, c)
	said := ""
	if err != nil {
		if errors.Is(err, errSilent) || errors.Is(err, errEndless) {
			said = m.confess()
		}
		m.kill()
	}
	if ended := m.end(); err == nil {
		err = ended // that it was killed is no news
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "--- the end of the console of the bed %s\n%s\n%s%s---\n", c.plan.Bed, m.consoleTail(consoleLines), m.stderr.Bytes(), said)
	}
	return err
}

// lines passes whole lines on, so that those of several writers do not mix. It
// is safe for concurrent use by writers that write whole lines.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}
