// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"testing"
)

func TestWithVariable(t *testing.T) {
	room := append(make([]string, 0, 8), "A=1", "LONGER=2", "EMPTY=")
	for _, tc := range []struct {
		name, value string
		want        []string
	}{
		{"A", "3", room},
		{"EMPTY", "3", room},
		{"B", "", room},
		{"LONG", "3", []string{"A=1", "LONGER=2", "EMPTY=", "LONG=3"}},
		{"B", "x=y", []string{"A=1", "LONGER=2", "EMPTY=", "B=x=y"}},
	} {
		if got := WithVariable(room, tc.name, tc.value); !slices.Equal(got, tc.want) {
			t.Errorf("%s=%s: %q, want %q", tc.name, tc.value, got, tc.want)
		}
	}
	if kept := room[:4]; kept[3] != "" {
		t.Errorf("the array below was written to: %q", kept)
	}
}
