// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are what the command line says.
type options struct {
	iterations  int
	concurrency int
	rounds      int
	shims       int
	shimExecs   int
	runtimes    []string
	variants    []string
	measures    []string // empty for all
	output      string
}

func main() {
	os.Exit(run())
}

func run() int {
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var code int
	switch os.Getenv(stageVariable) {
	case stageInit:
		code, err = runInit()
	case stageBench:
		err = runBench(ctx, o)
	default:
		code, err = runOutside(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return max(code, 1)
	}
	return code
}

func parse(args []string) (options, error) {
	var (
		o                            options
		runtimes, variants, measures string
	)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.iterations, "n", 25, "how often each variant does each thing that is timed")
	flags.IntVar(&o.concurrency, "concurrency", 8, "containers at once where containers per second are measured")
	flags.IntVar(&o.rounds, "rounds", 4, "how often containers per second are measured")
	flags.IntVar(&o.shims, "shims", 20, "idle containers whose shims' memory is read")
	flags.IntVar(&o.shimExecs, "shim-execs", 1, "execs in each of them before it is read again")
	flags.StringVar(&runtimes, "runtimes", "runc,crun", "OCI runtimes: runc (bin/runc), crun (/usr/bin/crun)")
	flags.StringVar(&variants, "variants", "stock,drop-in,quoind", "what to compare; ratios are to stock")
	flags.StringVar(&measures, "measures", "", "only these, of null, fifo, run, exec, throughput, memory, programs")
	flags.StringVar(&o.output, "o", "_out/bench.json", "file for the results as JSON; none if empty")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: bench [flags]\n\n"+
			"Measures Quoin beside stock containerd, interleaved, as root. `make bench` builds\n"+
			"and installs what it needs. The table goes to standard output.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: everything is a flag, see --help", flags.Arg(0))
	}
	for name, value := range map[string]int{"n": o.iterations, "concurrency": o.concurrency, "rounds": o.rounds, "shims": o.shims, "shim-execs": o.shimExecs} {
		if value < 1 {
			return o, fmt.Errorf("-%s %d: must be at least 1", name, value)
		}
	}
	o.runtimes, o.variants = strings.Split(runtimes, ","), strings.Split(variants, ",")
	if measures != "" {
		o.measures = strings.Split(measures, ",")
	}
	return o, o.check()
}

// wants says whether the measure is to be made.
func (o options) wants(measure string) bool {
	return len(o.measures) == 0 || slices.Contains(o.measures, measure)
}

// check names the first thing that the run would lack.
func (o options) check() error {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it starts containers")
	}
	known := (&bench{}).measures()
	for _, name := range o.measures {
		if !slices.ContainsFunc(known, func(m measure) bool { return m.name == name }) {
			return fmt.Errorf("no measure %q: see --help", name)
		}
	}
	need := append([]string{}, commonFiles()...)
	for _, name := range o.runtimes {
		r, err := runtimeByName(name)
		if err != nil {
			return err
		}
		need = append(need, r.binary)
	}
	for _, name := range o.variants {
		v, err := variantByName(name)
		if err != nil {
			return err
		}
		need = append(need, v.daemon, v.shim)
	}
	for _, path := range need {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: `make bench` builds or installs it", err)
		}
	}
	return nil
}
