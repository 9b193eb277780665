// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print writes the results for people.
func (r *results) print(w io.Writer) error {
	r.summarize()
	out := &strings.Builder{}
	r.Machine.print(out)
	fmt.Fprintf(out, "run: %d iterations, interleaved; %d at once ×%d rounds; %d shims; %.0f s\n"+
		"Each cell: median (90th percentile). Ratios are of medians, to stock.\n",
		r.Settings.Iterations, r.Settings.Concurrency, r.Settings.Rounds, r.Settings.Shims, r.Seconds)
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
	fmt.Fprintf(w, "\n== with %s ==\n", runtime)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\t\t"+strings.Join(r.Settings.Variants, "\t"))
	for _, v := range r.others() {
		fmt.Fprintf(table, "\t%s/%s", v, stock)
	}
	fmt.Fprintln(table, "\ttarget\t")
	for _, m := range metrics() {
		r.printMetric(table, runtime, m)
	}
	_ = table.Flush() // a strings.Builder does not fail
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

func (r *results) printMetric(w io.Writer, runtime string, m metric) {
	// A title must not widen the first column, so it is no cell.
	fmt.Fprintf(w, "%s\n", m.title)
	for _, p := range m.parts {
		fmt.Fprintf(w, "  %s\t%s", p.name, p.unit)
		for _, v := range r.Settings.Variants {
			fmt.Fprintf(w, "\t%s", r.find(runtime, m.name, p.name, v).cell())
		}
		for _, v := range r.others() {
			fmt.Fprintf(w, "\t%s", r.find(runtime, m.name, p.name, v).comparison())
		}
		if p.target == nil {
			fmt.Fprintln(w, "\t\t")
		} else {
			fmt.Fprintf(w, "\t%v\t\n", p.target)
		}
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
		return fmt.Sprintf("%.2f", *r.Ratio)
	case *r.Met:
		return fmt.Sprintf("%.2f ok", *r.Ratio)
	default:
		return fmt.Sprintf("%.2f MISSED", *r.Ratio)
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
