// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseLoggerDirs(t *testing.T) {
	for text, want := range map[string][]string{
		"":                          nil,
		"/usr/libexec/loggers":      {"/usr/libexec/loggers"},
		"/usr/libexec/a/../b/:/opt": {"/usr/libexec/b", "/opt"},
	} {
		if got, err := ParseLoggerDirs(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"loggers", "/opt::/usr", "/opt:."} {
		if got, err := ParseLoggerDirs(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
