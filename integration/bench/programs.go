// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cio"
)

// tracedLifecycles is how many lifecycles the programs are counted of. The
// count is exact; it is a mean because cleaning up may be shared.
const tracedLifecycles = 5

// programs counts what one lifecycle executes. Where the kernel does not let
// it, the run goes on without.
func (b *bench) programs(ctx context.Context) error {
	prepared, remove, err := b.prepare(ctx, 1)
	if err != nil {
		return err
	}
	for _, s := range b.subjects {
		trace, traceErr := startTrace(s.cmd.Process.Pid)
		if traceErr != nil {
			fmt.Fprintf(os.Stderr, "%s: programs executed are not counted: %v\n", s.name, traceErr)
			break
		}
		for range tracedLifecycles {
			if _, err = s.lifecycle(ctx, prepared[s][0], cio.NullIO); err != nil {
				break
			}
		}
		files, traceErr := trace.files()
		err = errors.Join(err, traceErr, trace.stop())
		if err != nil {
			break
		}
		b.results.add(b.runtime.name, metricPrograms, s.name, s.classify(files))
		b.results.note(s.name+" with "+b.runtime.name, "executed per lifecycle: "+listing(files))
	}
	return errors.Join(err, remove())
}

// classify counts executed files by whose they are, per lifecycle.
func (s *subject) classify(files []string) phases {
	counts := phases{"shim": 0, "runtime": 0, "re-exec": 0, "other": 0, "total": float64(len(files)) / tracedLifecycles}
	for _, file := range files {
		class := "other"
		switch {
		case file == s.shim:
			class = "shim"
		case file == s.runtime.binary:
			class = "runtime"
		case strings.HasPrefix(file, "/proc/self/"), strings.HasPrefix(file, "/dev/fd/"):
			// The runtime again: as the container's init, or from a sealed copy.
			class = "re-exec"
		}
		counts[class] += 1.0 / tracedLifecycles
	}
	return counts
}

// listing says what was executed and how often per lifecycle, in the order of
// first appearance.
func listing(files []string) string {
	counts := map[string]int{}
	var order []string
	for _, file := range files {
		if counts[file] == 0 {
			order = append(order, file)
		}
		counts[file]++
	}
	for i, file := range order {
		order[i] = fmt.Sprintf("%s ×%.3g", file, float64(counts[file])/tracedLifecycles)
	}
	return strings.Join(order, ", ")
}
