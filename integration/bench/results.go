// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// results are what a run found, as the JSON file has them.
type results struct {
	Began    string   `json:"began"` // UTC, RFC 3339
	Seconds  float64  `json:"seconds"`
	Machine  machine  `json:"machine"`
	Settings settings `json:"settings"`
	Rows     []*row   `json:"rows"`
	Notes    []note   `json:"notes,omitempty"`
}

// settings are what the run was asked for.
type settings struct {
	Iterations  int      `json:"iterations"`
	Concurrency int      `json:"concurrency"`
	Rounds      int      `json:"rounds"`
	Shims       int      `json:"shims"`
	ShimExecs   int      `json:"shim_execs"`
	Runtimes    []string `json:"runtimes"`
	Variants    []string `json:"variants"`
}

func (o options) settings() settings {
	return settings{o.iterations, o.concurrency, o.rounds, o.shims, o.shimExecs, o.runtimes, o.variants}
}

type note struct {
	About string `json:"about"`
	Text  string `json:"text"`
}

// row is one figure of one variant.
type row struct {
	Runtime string  `json:"runtime"`
	Metric  string  `json:"metric"`
	Part    string  `json:"part"`
	Unit    string  `json:"unit"`
	Variant string  `json:"variant"`
	Samples int     `json:"samples"`
	Median  float64 `json:"median"`
	P90     float64 `json:"p90"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	// Ratio is the median's to that of stock; absent without stock.
	Ratio *float64 `json:"ratio_to_stock,omitempty"`
	// Target bounds the ratio, and Met says whether it keeps the bound.
	Target *target `json:"target,omitempty"`
	Met    *bool   `json:"met,omitempty"`

	values []float64
}

// add records one sample of each part of a metric.
func (r *results) add(runtime, metric, variant string, parts phases) {
	for part, value := range parts {
		found := r.find(runtime, metric, part, variant)
		if found == nil {
			found = &row{Runtime: runtime, Metric: metric, Part: part, Variant: variant}
			r.Rows = append(r.Rows, found)
		}
		found.values = append(found.values, value)
	}
}

func (r *results) find(runtime, metric, part, variant string) *row {
	for _, each := range r.Rows {
		if each.Runtime == runtime && each.Metric == metric && each.Part == part && each.Variant == variant {
			return each
		}
	}
	return nil
}

func (r *results) note(about, text string) { r.Notes = append(r.Notes, note{about, text}) }

// noise is the duration, in milliseconds, below which a ratio says nothing: the
// exit of a program that ended before its start was answered, for one.
const noise = 0.1

// summarize computes the figures of every row and compares them with stock's.
func (r *results) summarize() {
	for _, each := range r.Rows {
		slices.Sort(each.values)
		each.Samples = len(each.values)
		each.Median, each.P90 = quantile(each.values, 0.5), quantile(each.values, 0.9)
		each.Min, each.Max = each.values[0], each.values[len(each.values)-1]
	}
	for _, each := range r.Rows {
		p := partOf(each.Metric, each.Part)
		each.Unit = p.unit
		reference := r.find(each.Runtime, each.Metric, each.Part, stock)
		if each.Variant == stock || reference == nil || reference.Median == 0 || p.unit == "ms" && reference.Median < noise {
			continue
		}
		ratio := each.Median / reference.Median
		each.Ratio = &ratio
		if p.target != nil {
			met := p.target.met(ratio)
			each.Target, each.Met = p.target, &met
		}
	}
}

// quantile interpolates between the values, which are sorted.
func quantile(values []float64, q float64) float64 {
	at := q * float64(len(values)-1)
	low := int(at)
	high := min(low+1, len(values)-1)
	return values[low] + (at-float64(low))*(values[high]-values[low])
}

// save writes the JSON file.
func (r *results) save(path string) error {
	if path == "" {
		return nil
	}
	r.summarize()
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make a place for the results: %w", err)
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	fmt.Fprintln(os.Stderr, "results:", path)
	return nil
}
