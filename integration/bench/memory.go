// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// settleInterval is how often the memory of shims is read until it stays
	// the same for settleReadings in a row, or settlePatience ends. A shim may
	// give memory back some seconds after it was last asked for something.
	settleInterval = 500 * time.Millisecond
	settleReadings = 8
	settlePatience = 30 * time.Second
	// settled is the relative change that counts as none.
	settled = 0.005
)

// memory reads what a shim costs that serves one idle container: right after
// the start, and after programs have been executed in each.
func (b *bench) memory(ctx context.Context) (err error) {
	running := map[*subject][]*sleeper{}
	defer func() {
		for _, sleepers := range running {
			for _, p := range sleepers {
				err = errors.Join(err, p.remove(ctx))
			}
		}
	}()
	err = b.inTurns(b.shims, func(i int, s *subject) error {
		p, err := s.startSleeper(ctx, fmt.Sprintf("idle-%d", i), fifoIO())
		if err == nil {
			running[s] = append(running[s], p)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := b.readShims(metricIdle, running); err != nil {
		return err
	}
	err = b.inTurns(b.shims*b.shimExecs, func(i int, s *subject) error {
		_, err := running[s][i%b.shims].exec(ctx, fmt.Sprintf("e%d", i))
		return err
	})
	if err != nil {
		return err
	}
	return b.readShims(metricUsed, running)
}

// readShims lets the shims settle and records each one's memory.
func (b *bench) readShims(metric string, running map[*subject][]*sleeper) error {
	tick := time.NewTicker(settleInterval)
	defer tick.Stop()
	var (
		read map[*subject][]phases
		last float64
	)
	deadline := time.Now().Add(settlePatience)
	for same := 0; same < settleReadings && time.Now().Before(deadline); <-tick.C {
		sum := 0.0
		read = map[*subject][]phases{}
		for s, sleepers := range running {
			for _, p := range sleepers {
				figures, err := p.readShim()
				if err != nil {
					return err
				}
				read[s] = append(read[s], figures)
				sum += figures["private"]
			}
		}
		if math.Abs(sum-last) <= settled*last {
			same++
		} else {
			same = 0
		}
		last = sum
	}
	for s, all := range read {
		for _, figures := range all {
			b.results.add(b.runtime.name, metric, s.name, figures)
		}
	}
	return nil
}

// readShim reads the memory of the container's shim, in KiB, and its threads.
// Private is what it does not share with other shims and what has no file. The
// kernel's Private_Dirty says the same but for a binary that has just been
// built: pages that are not on the disk yet count as dirty.
func (p *sleeper) readShim() (phases, error) {
	pid, err := p.shim()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	rollup, err := readFields(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return nil, err
	}
	status, err := readFields(filepath.Join(dir, "status"))
	if err != nil {
		return nil, err
	}
	return phases{
		"private": status["RssAnon"],
		"pss":     rollup["Pss"],
		"rss":     rollup["Rss"],
		"threads": status["Threads"],
	}, nil
}

// readFields reads the numbers of a file of lines like "Name:  12 kB".
func readFields(path string) (map[string]float64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the shim's memory: %w", err)
	}
	fields := map[string]float64{}
	for line := range strings.Lines(string(content)) {
		name, rest, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if value, err := strconv.ParseFloat(number, 64); err == nil {
			fields[name] = value
		}
	}
	return fields, nil
}
