// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/quoin-io/quoin/integration/vm/wire"
)

// grace is how long a test binary that ran out of time may take to print where
// it hangs.
const grace = 20 * time.Second

// reporter writes frames. After an error it writes no more and keeps the error.
type reporter struct {
	mu   sync.Mutex
	port io.Writer
	err  error
}

func (r *reporter) send(f wire.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = wire.Write(r.port, f)
	}
}

// live says again and again, until the guest ends, that it has not.
func (r *reporter) live() {
	for range time.Tick(wire.AliveEvery) {
		r.send(wire.Frame{Kind: wire.Alive})
	}
}

// stream makes frames of what a run writes. It never fails, so that a run ends
// on its own terms.
type stream struct {
	r     *reporter
	index int
}

func (s stream) Write(p []byte) (int, error) {
	s.r.send(wire.Frame{Kind: wire.Output, Index: s.index, Data: p})
	return len(p), nil
}

// execute does one run and returns its exit code, and what else is to be said
// about its end.
func execute(bed string, run wire.Run, out io.Writer) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(run.Seconds)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(wire.CargoDir, "tests", run.Binary), run.Args...)
	// A Go program answers SIGQUIT with the stacks of its goroutines.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = grace
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(),
		"QUOIN_VM_BED="+bed,
		"QUOIN_BIN="+filepath.Join(wire.CargoDir, "bin"),
		"QUOIN_STOCK="+filepath.Join(wire.CargoDir, "bin", "stock"),
		"HOME=/root")
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 1, fmt.Sprintf("it did not end within %ds", run.Seconds)
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), ""
	case err != nil:
		return 1, err.Error()
	}
	return 0, ""
}
