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
	"syscall"
	"time"
)

// settings are what the command line says.
type settings struct {
	bed, filter string
	repository  string
	bin, cache  string
	goCommand   string
	memory      int // MiB
	processors  int
	boot        time.Duration
	out         io.Writer // of test2json's output
}

func main() {
	s := settings{goCommand: envOr("GO", "go"), out: os.Stdout}
	flag.StringVar(&s.bed, "bed", "v2", "the bed to run: "+bedNames())
	flag.StringVar(&s.filter, "run", "", "run only tests whose names match this pattern")
	flag.StringVar(&s.repository, "C", ".", "the repository's directory")
	flag.StringVar(&s.bin, "bin", envOr("QUOIN_BIN", "bin"), "the directory of the product's binaries")
	flag.StringVar(&s.cache, "cache", filepath.Join("_cache", "vm"), "the directory for what is made once")
	flag.IntVar(&s.memory, "memory", 3072, "the machine's memory in MiB")
	flag.IntVar(&s.processors, "processors", 2, "the machine's processors")
	flag.DurationVar(&s.boot, "boot", 5*time.Minute, "how long the machine may take to boot")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
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

// work runs one bed and says whether a test failed.
func (s settings) work(ctx context.Context) (failed bool, retErr error) {
	plan, err := planFor(s.bed, s.filter)
	if err != nil {
		return false, err
	}
	root, err := rootImage(ctx, s.repository, s.cache)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "quoin-vm-")
	if err != nil {
		return false, fmt.Errorf("make a directory for this run: %w", err)
	}
	defer func() { retErr = errors.Join(retErr, os.RemoveAll(dir)) }()
	begun := time.Now()
	cargo, err := s.makeCargo(ctx, dir, plan)
	if err != nil {
		return false, err
	}
	note("built the tests and their disk in %v", time.Since(begun).Round(time.Second))
	m, err := s.start(ctx, dir, root, cargo)
	if err != nil {
		return false, err
	}
	failed, err = s.follow(m, plan)
	if err := errors.Join(err, m.end()); err != nil {
		fmt.Fprintf(os.Stderr, "--- the end of the machine's console\n%s\n---\n", m.consoleTail(80))
		return true, err
	}
	return failed, nil
}

// note says on standard error what goes on.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "vm: "+format+"\n", args...)
}
