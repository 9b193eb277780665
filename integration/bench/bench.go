// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"

	"github.com/quoin-io/quoin/integration/harness"
)

// bench is one run with one OCI runtime.
type bench struct {
	options
	subjects []*subject
	runtime  ociRuntime
	results  *results
}

// runBench is the benchmark itself, inside the namespaces. What was measured
// before an error is shown all the same.
func runBench(ctx context.Context, o options) error {
	began := time.Now()
	r := &results{Began: began.UTC().Format(time.RFC3339), Machine: describeMachine(ctx), Settings: o.settings()}
	var failed error
	for _, name := range o.runtimes {
		runtime, err := runtimeByName(name)
		if err == nil {
			err = withRuntime(ctx, o, runtime, r)
		}
		if err != nil {
			failed = fmt.Errorf("with %s: %w", name, err)
			break
		}
	}
	r.Machine.LoadEnd = loadAverage()
	r.Seconds = time.Since(began).Round(time.Second).Seconds()
	return errors.Join(r.print(os.Stdout), r.save(o.output), failed)
}

// withRuntime starts a daemon for each variant and measures them all.
func withRuntime(ctx context.Context, o options, runtime ociRuntime, r *results) (err error) {
	b := &bench{options: o, runtime: runtime, results: r}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.logs())
		}
		for _, s := range b.subjects {
			err = errors.Join(err, s.stop())
		}
		err = errors.Join(err, noneLeft())
	}()
	for _, name := range o.variants {
		v, err := variantByName(name)
		if err != nil {
			return err
		}
		s, err := startSubject(ctx, v, runtime)
		if err != nil {
			return err
		}
		b.subjects = append(b.subjects, s)
	}
	for _, m := range b.measures() {
		if !o.wants(m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", runtime.name, m.name)
		if err := m.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// measure is something to do with every subject, by the name that -measures
// has for it.
type measure struct {
	name string
	do   func(context.Context) error
}

func (b *bench) measures() []measure {
	return []measure{
		{"null", func(ctx context.Context) error { return b.lifecycles(ctx, metricNull, cio.NullIO) }},
		{"fifo", func(ctx context.Context) error { return b.lifecycles(ctx, metricFIFO, fifoIO()) }},
		{"run", b.runs},
		{"exec", b.execs},
		{"throughput", b.throughput},
		{"memory", b.memory},
		{"programs", b.programs},
	}
}

// noneLeft says what still runs after every daemon has been stopped: a shim that
// outlives its last container is one too many in all figures that follow.
func noneLeft() error {
	return until(cleanupPatience, func() error {
		var errs []error
		for _, p := range harness.Processes() {
			if p.PID != 1 && p.PID != os.Getpid() {
				errs = append(errs, fmt.Errorf("left behind: process %v", p))
			}
		}
		return errors.Join(errs...)
	})
}

// logs is the end of each daemon's log, as an error to show.
func (b *bench) logs() error {
	var errs []error
	for _, s := range b.subjects {
		errs = append(errs, fmt.Errorf("the end of the log of %s:\n%s", s.name, s.logTail()))
	}
	return errors.Join(errs...)
}

// inTurns calls do n times for each subject, one after another, in an order
// that turns round at each iteration.
func (b *bench) inTurns(n int, do func(i int, s *subject) error) error {
	order := slices.Clone(b.subjects)
	for i := range n {
		for _, s := range order {
			if err := do(i, s); err != nil {
				return err
			}
		}
		slices.Reverse(order)
	}
	return nil
}

// repeat is inTurns with one call for each subject before, which warms caches
// and is not recorded. The mean CPU time of the others is recorded as well: it
// is one figure, because daemons clean up after they have answered. each is how
// many lives one call of do has.
func (b *bench) repeat(metric string, n, each int, do func(i int, s *subject) (phases, error)) error {
	began := map[*subject]time.Duration{}
	err := b.inTurns(n+1, func(i int, s *subject) error {
		if i == 1 {
			used, err := s.meter.used()
			if err != nil {
				return err
			}
			began[s] = used
		}
		laps, err := do(i, s)
		if err == nil && i > 0 {
			b.results.add(b.runtime.name, metric, s.name, laps)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, s := range b.subjects {
		used, err := s.meter.used()
		if err != nil {
			return err
		}
		b.results.add(b.runtime.name, metric, s.name, phases{"cpu": milliseconds(used-began[s]) / float64(n*each)})
	}
	return nil
}
