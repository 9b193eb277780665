// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"
	"time"
)

func TestCleanupLimit(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":      4500 * time.Millisecond,
		"20s":   18 * time.Second,
		"-1s":   4500 * time.Millisecond,
		"0s":    4500 * time.Millisecond,
		"never": 4500 * time.Millisecond,
	} {
		if got := CleanupLimit(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
