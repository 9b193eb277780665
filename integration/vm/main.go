// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

// settings are what the command line says.
type settings struct {
	beds, filter string
	tags         string // of the tests
	repository   string
	bin, cache   string
	goCommand    string
	atOnce       int // beds
	memory       int // MiB
	processors   int
	boot, limit  time.Duration
	// silence is how long nothing may be heard of a machine that has booted.
	silence time.Duration
	out     io.Writer // of test2json's output
}

func main() {
	s := settings{goCommand: envOr("GO", "go"), out: os.Stdout}
	flag.StringVar(&s.beds, "beds", "v2 troubles hybrid bare", "the beds to run: "+bedNames())
	flag.StringVar(&s.filter, "run", "", "run only tests whose names match this pattern")
	flag.StringVar(&s.tags, "tags", "vm", "build the tests with these tags")
	flag.StringVar(&s.repository, "C", ".", "the repository's directory")
	flag.StringVar(&s.bin, "bin", envOr("QUOIN_BIN", "bin"), "the directory of the product's binaries")
	flag.StringVar(&s.cache, "cache", filepath.Join("_cache", "vm"), "the directory for what is made once")
	flag.IntVar(&s.atOnce, "at-once", 0, "how many beds run at the same time; 0 is as many as the processors are enough for")
	flag.IntVar(&s.memory, "memory", 3072, "a machine's memory in MiB")
	flag.IntVar(&s.processors, "processors", 2, "a machine's processors")
	flag.DurationVar(&s.boot, "boot", 5*time.Minute, "how long a machine may take to boot")
	flag.DurationVar(&s.silence, "silence", 24*wire.AliveEvery, "how long a machine may be silent; what it runs or not, it tells that it lives")
	flag.DurationVar(&s.limit, "limit", 50*time.Minute, "how long all of it may take")
	flag.Parse()
	if s.atOnce <= 0 {
		s.atOnce = max(1, runtime.NumCPU()/max(1, s.processors)) // more would take as long, and less evenly
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("the beds did not end within %v", s.limit))
	defer cancel()
	failed, err := s.work(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
	}
	if err != nil || failed {
		os.Exit(1)
	}
}

func envOr(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

// work prepares what the beds share, runs them and says whether a test failed.
func (s settings) work(ctx context.Context) (failed bool, retErr error) {
	names := strings.Fields(s.beds)
	plans := make([]wire.Plan, len(names))
	for i, name := range names {
		var err error
		if plans[i], err = s.planFor(name); err != nil {
			return false, err
		}
	}
	dir, err := os.MkdirTemp("", "quoin-vm-")
	if err != nil {
		return false, fmt.Errorf("make a directory for this run: %w", err)
	}
	defer func() { retErr = errors.Join(retErr, os.RemoveAll(dir)) }()
	root, cargo, err := s.prepare(ctx, dir, plans)
	if err != nil {
		return false, err
	}
	return s.runBeds(ctx, dir, root, cargo, plans)
}

// prepare makes the disks: the root, if it is not in the cache, takes as long to
// download as the tests to build.
func (s settings) prepare(ctx context.Context, dir string, plans []wire.Plan) (root image, cargo string, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		root, err = rootImage(ctx, s.repository, s.cache)
		return err
	})
	group.Go(func() (err error) {
		begun := time.Now()
		if cargo, err = s.makeCargo(ctx, dir, plans); err != nil {
			return err
		}
		note("built the tests and their disk in %v", time.Since(begun).Round(time.Second))
		return nil
	})
	err = group.Wait() // first: it is what sets the others
	return root, cargo, err
}

// note says on standard error what goes on.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "vm: "+format+"\n", args...)
}
