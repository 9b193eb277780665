// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"encoding/json"
	"fmt"
	"testing"
)

// Finding is what the doctor says of one thing.
type Finding struct {
	ID, Status, Message, Fix string
}

// Doctor is what the doctor finds inside, by what it looks at.
func (i *Inner) Doctor(t testing.TB) map[string]Finding {
	t.Helper()
	// It fails where something is not in order.
	out, stderr, err := i.Try(t, "quoinctl doctor --json")
	found, jsonErr := Findings([]byte(out))
	if jsonErr != nil {
		t.Fatalf("the doctor: %v, %v\n%s", err, jsonErr, stderr)
	}
	return found
}

// Findings reads what `quoinctl doctor --json` prints, by what it has looked at.
func Findings(report []byte) (map[string]Finding, error) {
	var all struct{ Findings []Finding }
	if err := json.Unmarshal(report, &all); err != nil {
		return nil, fmt.Errorf("read the doctor's report: %w\n%s", err, report)
	}
	if len(all.Findings) == 0 {
		return nil, fmt.Errorf("the doctor's report has no findings:\n%s", report)
	}
	found := map[string]Finding{}
	for _, f := range all.Findings {
		found[f.ID] = f
	}
	return found, nil
}

// CheckDoctor compares findings with the status that each should have.
func (i *Inner) CheckDoctor(t testing.TB, want map[string]string) {
	t.Helper()
	found := i.Doctor(t)
	for id, status := range want {
		if f := found[id]; f.Status != status {
			t.Errorf("the doctor's finding on %s is %+v, want %s", id, f, status)
		}
	}
}
