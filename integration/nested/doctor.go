// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"encoding/json"
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
	var report struct{ Findings []Finding }
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil || len(report.Findings) == 0 {
		t.Fatalf("the doctor: %v, %v\n%s%s", err, jsonErr, out, stderr)
	}
	found := map[string]Finding{}
	for _, f := range report.Findings {
		found[f.ID] = f
	}
	return found
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
