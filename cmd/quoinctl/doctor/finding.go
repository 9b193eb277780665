// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"

	"github.com/quoin-io/quoin/config"
)

// Status is how serious a finding is.
type Status string

// The statuses. Only Fail makes the program end with exit code 1.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is the result of one check. Its JSON is described in the package's
// documentation.
type Finding struct {
	ID      string         `json:"id"`
	Group   string         `json:"group"`
	Title   string         `json:"title"`
	Status  Status         `json:"status"`
	Message string         `json:"message"`
	Fix     string         `json:"fix,omitempty"`
	Facts   map[string]any `json:"facts,omitempty"`
}

// schema is the version of the JSON.
const schema = 1

// Report is all findings of one run.
type Report struct {
	Schema   int            `json:"schema"`
	Version  string         `json:"version"`
	Verdict  Status         `json:"verdict"`
	Counts   map[Status]int `json:"counts"`
	Findings []Finding      `json:"findings"`
}

func newReport(findings []Finding) *Report {
	r := &Report{
		Schema:   schema,
		Version:  config.Version,
		Verdict:  OK,
		Counts:   map[Status]int{OK: 0, Warn: 0, Fail: 0},
		Findings: findings,
	}
	for _, f := range findings {
		r.Counts[f.Status]++
	}
	switch {
	case r.Counts[Fail] > 0:
		r.Verdict = Fail
	case r.Counts[Warn] > 0:
		r.Verdict = Warn
	}
	return r
}

func good(format string, args ...any) Finding {
	return Finding{Status: OK, Message: fmt.Sprintf(format, args...)}
}

func warning(fix, format string, args ...any) Finding {
	return Finding{Status: Warn, Fix: fix, Message: fmt.Sprintf(format, args...)}
}

func failure(fix, format string, args ...any) Finding {
	return Finding{Status: Fail, Fix: fix, Message: fmt.Sprintf(format, args...)}
}

// with adds a fact.
func (f Finding) with(key string, value any) Finding {
	facts := make(map[string]any, len(f.Facts)+1)
	for k, v := range f.Facts {
		facts[k] = v
	}
	facts[key] = value
	f.Facts = facts
	return f
}

// asRoot is what to do about things that only root can see.
const asRoot = "run quoinctl doctor as root to have this checked"
