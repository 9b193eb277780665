// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// print writes the results for people.
func (r *results) print(w io.Writer) error {
	r.summarize()
	out := &strings.Builder{}
	r.Machine.print(out)
	fmt.Fprintf(out, "run: %d iterations, interleaved; %d at once ×%d rounds; %d shims, execs in each: %d; %.0f s\n"+
		"Each cell: median (90th percentile); cpu: mean time of daemon, shim, runtime and container,\nwhich other load disturbs little. Ratios are of medians, to stock.\n",
		r.Settings.Iterations, r.Settings.Concurrency, r.Settings.Rounds, r.Settings.Shims, r.Settings.ShimExecs, r.Seconds)
	for _, runtime := range r.Settings.Runtimes {
		r.printRuntime(out, runtime)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "\n%s: %s", n.About, n.Text)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(out)
	}
	r.printMissed(out)
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("print the results: %w", err)
	}
	return nil
}

func (r *results) printRuntime(w io.Writer, runtime string) {
	head := append([]string{"", ""}, r.Settings.Variants...)
	for _, v := range r.others() {
		head = append(head, v+"/"+stock)
	}
	t := &grid{}
	t.row(append(head, "target")...)
	for _, m := range metrics() {
		r.addMetric(t, runtime, m)
	}
	fmt.Fprintf(w, "\n== with %s ==\n", runtime)
	t.print(w)
}

// others are the variants that have a ratio to stock.
func (r *results) others() []string {
	var names []string
	for _, v := range r.Settings.Variants {
		if v != stock {
			names = append(names, v)
		}
	}
	return names
}

func (r *results) addMetric(t *grid, runtime string, m metric) {
	if !slices.ContainsFunc(r.Rows, func(each *row) bool { return each.Runtime == runtime && each.Metric == m.name }) {
		return
	}
	t.title(m.title)
	for _, p := range m.parts {
		line := []string{"  " + p.name, p.unit}
		for _, v := range r.Settings.Variants {
			line = append(line, r.find(runtime, m.name, p.name, v).cell())
		}
		for _, v := range r.others() {
			line = append(line, r.find(runtime, m.name, p.name, v).comparison())
		}
		if p.target != nil {
			line = append(line, p.target.String())
		}
		t.row(line...)
	}
}

// cell is the figure; a row that was not measured is a dash.
func (r *row) cell() string {
	switch {
	case r == nil:
		return "-"
	case r.Samples == 1:
		return number(r.Median)
	default:
		return fmt.Sprintf("%s (%s)", number(r.Median), number(r.P90))
	}
}

func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f == float64(int64(f)):
		return fmt.Sprintf("%d", int64(f))
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

// comparison is the ratio to stock and whether it meets the target.
func (r *row) comparison() string {
	switch {
	case r == nil || r.Ratio == nil:
		return ""
	case r.Met == nil:
		return fmt.Sprintf("%.3f", *r.Ratio)
	case *r.Met:
		return fmt.Sprintf("%.3f ok", *r.Ratio)
	default:
		return fmt.Sprintf("%.3f MISSED", *r.Ratio)
	}
}

// printMissed says in a line whether every target was met.
func (r *results) printMissed(w io.Writer) {
	met, missed := 0, 0
	for _, each := range r.Rows {
		switch {
		case each.Met == nil:
		case *each.Met:
			met++
		default:
			missed++
		}
	}
	if met+missed > 0 {
		fmt.Fprintf(w, "\ntargets: %d met, %d missed\n", met, missed)
	}
}
