// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.9, 7},
		{[]float64{1, 3}, 0.5, 2},
		{[]float64{1, 2, 3}, 0.5, 2},
		{[]float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, 0.9, 90},
		{[]float64{1, 2, 3}, 1, 3},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.values, c.q, got, c.want)
		}
	}
}

func TestResultsCompareMediansWithStock(t *testing.T) {
	r := &results{Settings: settings{Runtimes: []string{"runc"}, Variants: []string{stock, "quoind"}}}
	for _, sample := range [][2]float64{{100, 90}, {120, 80}, {110, 70}} {
		r.add("runc", metricNull, stock, phases{"total": sample[0], "create": 50})
		r.add("runc", metricNull, "quoind", phases{"total": sample[1], "create": 60})
	}
	r.add("runc", metricThroughput, stock, phases{"total": 10})
	r.add("runc", metricThroughput, "quoind", phases{"total": 11})
	r.summarize()

	total := r.find("runc", metricNull, "total", "quoind")
	if total.Median != 80 || total.Samples != 3 || total.Min != 70 || total.Max != 90 {
		t.Errorf("total: %+v", total)
	}
	if total.Ratio == nil || *total.Ratio != 80.0/110 || total.Met == nil || !*total.Met {
		t.Errorf("total's comparison: ratio %v, met %v", total.Ratio, total.Met)
	}
	if create := r.find("runc", metricNull, "create", "quoind"); create.Met != nil || *create.Ratio != 1.2 {
		t.Errorf("create has no target: %+v", create)
	}
	if rate := r.find("runc", metricThroughput, "total", "quoind"); rate.Met == nil || *rate.Met {
		t.Errorf("1.1 times stock's rate is short of the target: %+v", rate)
	}
	if reference := r.find("runc", metricNull, "total", stock); reference.Ratio != nil || reference.Met != nil {
		t.Errorf("stock is compared with itself: %+v", reference)
	}

	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"== with runc ==", "0.727 ok", "1.100 MISSED", "≤ 0.85", "targets: 1 met, 1 missed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "exec of a program") {
		t.Errorf("the table has what was not measured:\n%s", out.String())
	}
}

func TestResultsAreSavedAsJSON(t *testing.T) {
	r := &results{}
	r.add("crun", metricExec, stock, phases{"total": 5})
	path := filepath.Join(t.TempDir(), "new", "bench.json")
	if err := r.save(path); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Rows []struct {
			Runtime, Metric, Part, Unit, Variant string
			Median                               float64
		}
	}
	if err := json.Unmarshal(content, &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Rows) != 1 || read.Rows[0].Metric != metricExec || read.Rows[0].Unit != "ms" || read.Rows[0].Median != 5 {
		t.Errorf("read back: %+v", read)
	}
}

func TestGridAligns(t *testing.T) {
	g := &grid{}
	g.row("", "a", "long head")
	g.title("a title that is wider than any column")
	g.row("  x", "1", "≤ 2")
	g.row("  y", "100")
	var out strings.Builder
	g.print(&out)
	want := "       a  long head\na title that is wider than any column\n  x    1        ≤ 2\n  y  100\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestExecutedFilesAreClassified(t *testing.T) {
	const trace = `# tracer: nop
          <...>-77 [000] .....  10.1: sched_process_exec: filename=/b/shim pid=77 old_pid=77
            sh-78 [001] .....  10.2: sched_process_exec: filename=/a dir/with pid=9/runc pid=78 old_pid=78
             6-79 [001] .....  10.3: sched_process_exec: filename=/proc/self/fd/6 pid=79 old_pid=79
          true-79 [001] .....  10.4: sched_process_exec: filename=/bin/true pid=79 old_pid=79
`
	var files []string
	for range tracedLifecycles {
		for _, match := range execLine.FindAllStringSubmatch(trace, -1) {
			files = append(files, match[1])
		}
	}
	s := &subject{variant: variant{shim: "/b/shim"}, runtime: ociRuntime{binary: "/a dir/with pid=9/runc"}}
	got := s.classify(files)
	for part, want := range (phases{"total": 4, "shim": 1, "runtime": 1, "re-exec": 1, "other": 1}) {
		if diff := got[part] - want; diff > 1e-9 || diff < -1e-9 {
			t.Errorf("%s: %v instead of %v", part, got[part], want)
		}
	}
	if want := "/b/shim ×1, /a dir/with pid=9/runc ×1, /proc/self/fd/6 ×1, /bin/true ×1"; listing(files) != want {
		t.Errorf("listing: %s", listing(files))
	}
}

func TestCommandLineIsChecked(t *testing.T) {
	for _, args := range [][]string{
		{"-n", "0"}, {"-shims", "-1"}, {"stock"}, {"-variants", "podman"}, {"-runtimes", "kata"}, {"-measures", "speed"}, {"-nope"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestMetricsAreDistinct(t *testing.T) {
	var names []string
	for _, m := range metrics() {
		if slices.Contains(names, m.name) {
			t.Errorf("two metrics are named %s", m.name)
		}
		names = append(names, m.name)
		if len(m.parts) == 0 || m.title == "" {
			t.Errorf("metric %s has nothing to show", m.name)
		}
	}
}

func TestCPUTimeIsReadFromBothHierarchies(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		m       meter
		content string
	}{
		"v1": {meter{unit: 1}, "1500000\n"},
		"v2": {meter{field: "usage_usec", unit: 1000}, "user_usec 9\nusage_usec 1500\nsystem_usec 1\n"},
	} {
		c.m.file = filepath.Join(dir, name)
		if err := os.WriteFile(c.m.file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := c.m.used()
		if err != nil || milliseconds(got) != 1.5 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
