// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// The names of what is measured, as the JSON file has them.
const (
	metricNull       = "lifecycle_null"
	metricFIFO       = "lifecycle_fifo"
	metricRun        = "run"
	metricExec       = "exec"
	metricThroughput = "throughput"
	metricIdle       = "shim_idle"
	metricUsed       = "shim_after_exec"
	metricPrograms   = "programs"
)

// target bounds a ratio to stock.
type target struct {
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
}

func (t target) met(ratio float64) bool {
	return (t.AtMost == 0 || ratio <= t.AtMost) && ratio >= t.AtLeast
}

func (t target) String() string {
	if t.AtMost != 0 {
		return fmt.Sprintf("≤ %.2f", t.AtMost)
	}
	return fmt.Sprintf("≥ %.2f", t.AtLeast)
}

// metric is a group of lines of the table.
type metric struct {
	name  string
	title string
	parts []part
}

// part is one line.
type part struct {
	name   string
	unit   string
	target *target
}

// metrics are in the order of the table.
func metrics() []metric {
	return []metric{
		{metricNull, "lifecycle of a task, null IO", lifecycleParts(&target{AtMost: 0.85})},
		{metricFIFO, "lifecycle of a task, FIFOs", lifecycleParts(&target{AtMost: 0.85})},
		{metricRun, "the same with making and removing snapshot and container", []part{{"total", "ms", nil}, {"cpu", "ms", nil}}},
		{metricExec, "exec of a program in a running container", lifecycleParts(&target{AtMost: 1})},
		{metricThroughput, "lifecycles at once", []part{
			{"total", "/s", &target{AtLeast: 1.2}}, {"cpu", "ms", nil},
		}},
		{metricIdle, "a shim with one idle container", memoryParts()},
		{metricUsed, "the same after execs", memoryParts()},
		{metricPrograms, "programs executed per lifecycle, the container's own (1) included", []part{
			{"total", "", nil}, {"shim", "", nil}, {"runtime", "", nil}, {"re-exec", "", nil}, {"other", "", nil},
		}},
	}
}

func lifecycleParts(total *target) []part {
	return []part{{"create", "ms", nil}, {"start", "ms", nil}, {"exit", "ms", nil}, {"delete", "ms", nil}, {"total", "ms", total}, {"cpu", "ms", nil}}
}

func memoryParts() []part {
	return []part{
		{"private", "KiB", &target{AtMost: 0.65}},
		{"pss", "KiB", nil}, {"rss", "KiB", nil}, {"threads", "", nil},
	}
}

// partOf finds the part; one that no table has is the zero part.
func partOf(metricName, partName string) part {
	for _, m := range metrics() {
		for _, p := range m.parts {
			if m.name == metricName && p.name == partName {
				return p
			}
		}
	}
	return part{}
}
