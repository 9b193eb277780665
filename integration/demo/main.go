// SPDX-License-Identifier: Apache-2.0

// Command demo shows Quoin at work: it starts quoind on a socket, root and state
// of its own below _demo/, runs a container of an image that it builds from
// itself, shows what happened meanwhile, and proves that nothing is left.
//
// `make demo` builds and runs it. It needs root and the binaries in bin/, and
// no registry. In the container the same program is the container's.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// limit bounds the whole demonstration.
const limit = 2 * time.Minute

func main() {
	if len(os.Args) > 1 && os.Args[1] == insideArg {
		os.Exit(inside(os.Args[2:]))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := demonstrate(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demonstrate runs it all. What was started is stopped whatever happens; the
// directory stays only after a failure, for its log.
func demonstrate(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("containers need root: run it as root")
	}
	work, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the repository: %w", err)
	}
	p := placesIn(work)
	if err := p.check(); err != nil {
		return err
	}
	if err := p.clear(ctx); err != nil {
		return err
	}
	d, err := startDaemon(ctx, p)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nquoind's log: %s", err, p.log())
		}
	}()
	story := &story{ctl: d.ctl, image: p.image()}
	runErr := story.tell(ctx)
	if err := d.stop(); err != nil && runErr == nil {
		runErr = err
	}
	if runErr != nil {
		return runErr
	}
	if err := nothingLeft(p, story); err != nil {
		return err
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("removing %s: %w", p.dir, err)
	}
	say("The directory %s is gone too. That was all.", filepath.Base(p.dir))
	return nil
}

// say prints one line of the story.
func say(format string, args ...any) { fmt.Printf("\n# "+format+"\n", args...) }
