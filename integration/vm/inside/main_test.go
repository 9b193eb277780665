// SPDX-License-Identifier: Apache-2.0

//go:build vm

package inside

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// bed is the bed that the machine booted into: v2, troubles, hybrid or bare.
var bed = os.Getenv("QUOIN_VM_BED")

// daemon is the quoind that all tests use.
var daemon service

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if bed == "" {
		fmt.Fprintln(os.Stderr, "these tests change the machine that they run on: run `make test-vm`, which runs them in a virtual one")
		return 1
	}
	daemon = unit{}
	if bed == "bare" {
		daemon = &child{}
	}
	if err := setUp(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "set up quoind: %v\n%s\n", err, logEnd())
		return 1
	}
	return m.Run()
}

// setUp installs the product, starts it and gives it the images.
func setUp(ctx context.Context) error {
	if err := install(); err != nil {
		return err
	}
	if err := daemon.start(ctx); err != nil {
		return err
	}
	if err := connect(ctx); err != nil {
		return err
	}
	return importImages(ctx)
}
