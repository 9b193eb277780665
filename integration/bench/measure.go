// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
)

// prepare makes n containers of each subject whose process ends at once, and
// returns what removes them.
func (b *bench) prepare(ctx context.Context, n int) (map[*subject][]containerd.Container, func() error, error) {
	prepared := map[*subject][]containerd.Container{}
	remove := func() error {
		var errs []error
		for s, containers := range prepared {
			for _, c := range containers {
				errs = append(errs, s.removeContainer(ctx, c))
			}
		}
		return errors.Join(errs...)
	}
	for _, s := range b.subjects {
		for i := range n {
			c, err := s.newContainer(ctx, fmt.Sprintf("true-%d", i), "true")
			if err != nil {
				return nil, nil, errors.Join(err, remove())
			}
			prepared[s] = append(prepared[s], c)
		}
	}
	return prepared, remove, nil
}

func (b *bench) lifecycles(ctx context.Context, metric string, creator cio.Creator) error {
	prepared, remove, err := b.prepare(ctx, 1)
	if err != nil {
		return err
	}
	err = b.repeat(metric, b.iterations, 1, func(_ int, s *subject) (phases, error) {
		return s.lifecycle(ctx, prepared[s][0], creator)
	})
	return errors.Join(err, remove())
}

func (b *bench) runs(ctx context.Context) error {
	return b.repeat(metricRun, b.iterations, 1, func(i int, s *subject) (phases, error) {
		return s.run(ctx, fmt.Sprintf("run-%d", i))
	})
}

func (b *bench) execs(ctx context.Context) (err error) {
	running := map[*subject]*sleeper{}
	defer func() {
		for _, p := range running {
			err = errors.Join(err, p.remove(ctx))
		}
	}()
	for _, s := range b.subjects {
		p, err := s.startSleeper(ctx, "exec", cio.NullIO)
		if err != nil {
			return err
		}
		running[s] = p
	}
	return b.repeat(metricExec, b.iterations, 1, func(i int, s *subject) (phases, error) {
		return running[s].exec(ctx, fmt.Sprintf("e%d", i))
	})
}

// lifecyclesPerWorker is how many containers each of the concurrent workers
// runs in a round.
const lifecyclesPerWorker = 3

// throughput runs lifecycles of as many containers at once as the concurrency
// says, each with its own.
func (b *bench) throughput(ctx context.Context) error {
	prepared, remove, err := b.prepare(ctx, b.concurrency)
	if err != nil {
		return err
	}
	err = b.repeat(metricThroughput, b.rounds, b.concurrency*lifecyclesPerWorker, func(_ int, s *subject) (phases, error) {
		rate, err := s.rate(ctx, prepared[s])
		return phases{"total": rate}, err
	})
	return errors.Join(err, remove())
}

// rate is how many lifecycles end per second when every container has a worker.
func (s *subject) rate(ctx context.Context, containers []containerd.Container) (float64, error) {
	errs := make([]error, len(containers))
	began := time.Now()
	var workers sync.WaitGroup
	for i, c := range containers {
		workers.Go(func() {
			for range lifecyclesPerWorker {
				if _, err := s.lifecycle(ctx, c, cio.NullIO); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	workers.Wait()
	seconds := time.Since(began).Seconds()
	return float64(len(containers)*lifecyclesPerWorker) / seconds, errors.Join(errs...)
}
