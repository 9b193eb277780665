// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// DeadlinesEnv is the environment variable by which a daemon gives its shims
// their deadlines, in the form that ParseDeadlines reads.
const DeadlinesEnv = "QUOIN_DEADLINES"

// What a deadline may be. Below the shortest nothing on a busy machine would
// succeed; beyond the longest the word has lost its meaning.
const (
	shortestDeadline = 10 * time.Millisecond
	longestDeadline  = 24 * time.Hour
)

// ParseDeadlines reads "create=2m,start=30s": names and Go durations. What is not
// named has its default.
//
// Errors: errdefs.ErrInvalidArgument, which says what is possible.
func ParseDeadlines(text string) (Deadlines, error) {
	table := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if !ok {
			return Deadlines{}, fmt.Errorf("deadline %q: write name=duration, such as create=2m: %w", part, errdefs.ErrInvalidArgument)
		}
		if _, twice := table[name]; twice {
			return Deadlines{}, fmt.Errorf("deadline %q is set twice: %w", name, errdefs.ErrInvalidArgument)
		}
		table[name] = strings.TrimSpace(value)
	}
	return DeadlinesOf(table)
}

// DeadlinesOf reads a table of names and Go durations. What is not named has its
// default.
//
// Errors: errdefs.ErrInvalidArgument, which says what is possible.
func DeadlinesOf(table map[string]string) (Deadlines, error) {
	d := DefaultDeadlines()
	fields := d.fields()
	for _, name := range slices.Sorted(maps.Keys(table)) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			return Deadlines{}, fmt.Errorf("there is no deadline %q; there are %s: %w",
				name, strings.Join(deadlineNames(fields), ", "), errdefs.ErrInvalidArgument)
		}
		v, err := time.ParseDuration(table[name])
		if err != nil {
			return Deadlines{}, fmt.Errorf("deadline %s=%q is no duration, such as 90s or 2m30s: %w", name, table[name], errdefs.ErrInvalidArgument)
		}
		if v < shortestDeadline || v > longestDeadline {
			return Deadlines{}, fmt.Errorf("deadline %s=%s is not within %s and %s: %w",
				name, table[name], shortestDeadline, longestDeadline, errdefs.ErrInvalidArgument)
		}
		*fields[i].value = v
	}
	return d, nil
}

func deadlineNames(fields []field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// String is what differs from the defaults, in the form that ParseDeadlines reads;
// empty when nothing does.
func (d Deadlines) String() string {
	var parts []string
	for _, f := range d.Table() {
		if f.Value != f.Default {
			parts = append(parts, f.Name+"="+f.Value.String())
		}
	}
	return strings.Join(parts, ",")
}

// Deadline is one of Deadlines.
type Deadline struct {
	// Name in settings.
	Name string
	// Value in force, and the default.
	Value, Default time.Duration
}

// Table lists the deadlines in the order of the type.
func (d Deadlines) Table() []Deadline {
	d = d.WithDefaults()
	def := DefaultDeadlines()
	defaults := def.fields()
	var table []Deadline
	for i, f := range d.fields() {
		table = append(table, Deadline{Name: f.name, Value: *f.value, Default: *defaults[i].value})
	}
	return table
}
