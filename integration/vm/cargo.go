// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

const (
	// buildDeadline bounds the building of the tests on two busy cores.
	buildDeadline = 15 * time.Minute
	// module is where the packages are.
	module = "github.com/quoin-io/quoin"
)

// makeCargo makes the disk that carries the plans, the tests and the product to
// every machine, and returns its path.
func (s settings) makeCargo(ctx context.Context, dir string, plans []wire.Plan) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildDeadline)
	defer cancel()
	stage := filepath.Join(dir, "cargo")
	for _, sub := range []string{"tests", "config"} {
		if err := os.MkdirAll(filepath.Join(stage, sub), 0o755); err != nil {
			return "", fmt.Errorf("lay out the cargo: %w", err)
		}
	}
	if err := s.build(ctx, "build", filepath.Join(stage, "guest"), "integration/vm/guest"); err != nil {
		return "", err
	}
	built := map[string]bool{}
	for _, plan := range plans {
		text, err := json.MarshalIndent(plan, "", "  ")
		if err != nil {
			return "", fmt.Errorf("encode the plan: %w", err)
		}
		if err := os.WriteFile(filepath.Join(stage, wire.PlanName(plan.Bed)), text, 0o644); err != nil {
			return "", fmt.Errorf("write the plan: %w", err)
		}
		for _, r := range beds[plan.Bed].runs {
			if built[r.pkg] {
				continue
			}
			built[r.pkg] = true
			if err := s.build(ctx, "test", filepath.Join(stage, "tests", r.binary()), r.pkg); err != nil {
				return "", err
			}
		}
	}
	for from, to := range map[string]string{
		s.bin: "bin",
		filepath.Join(s.repository, "config", "quoind.service"): "config/quoind.service",
	} {
		if err := tool(ctx, "cp", "-aT", from, filepath.Join(stage, to)); err != nil {
			return "", err
		}
	}
	return pack(ctx, stage, filepath.Join(dir, "cargo.img"))
}

// build builds a program or a package's tests, static, for whatever C library
// the machine has.
func (s settings) build(ctx context.Context, what, out, pkg string) error {
	args := []string{what, "-trimpath", "-buildvcs=false", "-tags", s.tags, "-ldflags", "-s -w", "-o", out}
	if what == "test" {
		args = append(args, "-c")
	}
	cmd := exec.CommandContext(ctx, s.goCommand, append(args, module+"/"+pkg)...)
	cmd.Dir = s.repository
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// pack makes a file system of a directory.
func pack(ctx context.Context, stage, out string) (string, error) {
	used, err := exec.CommandContext(ctx, "du", "-sm", stage).Output()
	if err != nil {
		return "", fmt.Errorf("measure the cargo: %w", err)
	}
	var size int
	if _, err := fmt.Sscan(string(used), &size); err != nil {
		return "", fmt.Errorf("measure the cargo: %q: %w", used, err)
	}
	size += size/10 + 16 // what the file system itself takes
	return out, tool(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", stage, out, fmt.Sprintf("%dM", size))
}

// tool runs a program that says nothing when all is well.
func tool(ctx context.Context, argv ...string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}
