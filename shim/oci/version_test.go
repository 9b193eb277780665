// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]Version{
		"runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\n":  {"runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1", "1.0.2-dev"},
		"crun version 1.8.1\ncommit: f8a0\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD +SELINUX\n": {"crun", "1.8.1", "f8a0", "1.0.0"},
		"youki version: 0.5\nyouki version 0.5.4\n":                                             {Name: "youki", Release: "0.5.4"},
		"runc version v1.2.3\n": {Name: "runc", Release: "1.2.3"},
	} {
		if got, ok := parseVersion([]byte(text)); !ok || got != want {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "\n", "hello", "a b version 1", "runc version "} {
		if v, ok := parseVersion([]byte(text)); ok {
			t.Errorf("%q is taken for %+v", text, v)
		}
	}
}

func TestSecurityWarning(t *testing.T) {
	for release, floor := range map[string]string{
		"1.0.0-rc95": "1.3.6", "1.1.5+ds1": "1.3.6", "1.2.9": "1.3.6", "1.3.5": "1.3.6", "1.3.6-rc.1": "1.3.6", "1.3.6": "", "1.3.10": "",
		"1.4.0-rc.3": "1.4.3", "1.4.2": "1.4.3", "1.4.3": "", "1.5.0-rc.3": "1.5.0", "1.5.0": "", "1.5.1+dev": "", "1.6.0-rc.1": "", "2.0.0": "",
		"unknown": "",
	} {
		got := Version{Name: "runc", Release: release}.SecurityWarning()
		if (got == "") != (floor == "") || !strings.Contains(got, floor) {
			t.Errorf("runc %s: %q, want %q", release, got, floor)
		}
	}
	for release, floor := range map[string]string{"1.8.1": "1.30", "1.29.1": "1.30", "1.30": "", "1.30.1-dirty": "", "2.0": "", "unknown": ""} {
		got := Version{Name: "crun", Release: release}.SecurityWarning()
		if (got == "") != (floor == "") || !strings.Contains(got, floor) {
			t.Errorf("crun %s: %q, want %q", release, got, floor)
		}
	}
	if got := (Version{Name: "youki", Release: "0.1.0"}).SecurityWarning(); got != "" {
		t.Error(got)
	}
}
