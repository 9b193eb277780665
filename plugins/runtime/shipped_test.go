// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPreferShipped(t *testing.T) {
	for name, tc := range map[string]struct {
		machine, shipped string
		want             bool
	}{
		"old":                    {"runc version 1.1.5", "runc version 1.5.2", true},
		"old in its series":      {"runc version 1.3.5", "runc version 1.5.2", true},
		"of a distribution":      {"runc version 1.1.5+ds1-1+deb12u1", "runc version 1.5.2", true},
		"new enough":             {"runc version 1.3.6", "runc version 1.5.2", false},
		"newer":                  {"runc version 1.6.0", "runc version 1.5.2", false},
		"crun under runc's name": {"crun version 1.8.1", "runc version 1.5.2", false},
		"says nothing":           {"hello", "runc version 1.5.2", false},
		"both old":               {"runc version 1.1.5", "runc version 1.4.0", false},
		"shipped does not run":   {"runc version 1.1.5", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			program := func(name, says string) string {
				file := filepath.Join(dir, name)
				if says == "" {
					return file
				}
				if err := os.WriteFile(file, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				return file
			}
			prefer, why := PreferShipped(t.Context(), program("machine", tc.machine), program("shipped", tc.shipped))
			if prefer != tc.want || (why != "") != tc.want {
				t.Errorf("%t, %q; want %t", prefer, why, tc.want)
			}
			if prefer && !strings.Contains(why, "is older than") {
				t.Errorf("the reason is %q", why)
			}
		})
	}
}
