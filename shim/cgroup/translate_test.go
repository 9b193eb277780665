// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestShape(t *testing.T) {
	for path, want := range map[string]Driver{
		"":                               Unset,
		"/":                              Cgroupfs,
		"/k8s.io/abc":                    Cgroupfs,
		"relative/abc":                   Cgroupfs,
		"/kubepods/burstable/pod1/abc":   Cgroupfs,
		"system.slice:docker:abc":        Systemd,
		":cri:abc":                       Systemd,
		"kubepods-pod1.slice:cri:abc":    Systemd,
		"/a:b:c":                         Cgroupfs, // a path with colons
		"a:b":                            Cgroupfs,
		"a:b:c:d":                        Cgroupfs,
		"kubepods-pod1.slice/sub:cri:ab": Cgroupfs,
	} {
		if got := Shape(path); got != want {
			t.Errorf("%q has the shape %q, want %q", path, got, want)
		}
	}
}

func TestTranslate(t *testing.T) {
	systemd := Node{Driver: Systemd, Systemd: true}
	cgroupfs := Node{Driver: Cgroupfs}
	chosen := Node{Driver: Cgroupfs, Systemd: true} // cgroupfs although systemd runs
	stale := Node{Driver: Systemd}                  // told systemd, but it is not there
	for _, tc := range []struct {
		path     string
		node     Node
		driver   Driver
		want     string
		disagree bool
	}{
		{"", systemd, Systemd, "", false},
		{"", cgroupfs, Cgroupfs, "", false},
		{"", Node{}, Cgroupfs, "", false},
		{"", stale, Cgroupfs, "", false},
		// Agreement.
		{"kubepods-pod1.slice:cri-containerd:x", systemd, Systemd, "kubepods-pod1.slice:cri-containerd:x", false},
		{"/kubepods/pod1/x", cgroupfs, Cgroupfs, "/kubepods/pod1/x", false},
		{"/kubepods/pod1/x", chosen, Cgroupfs, "/kubepods/pod1/x", false},
		// The shape wins.
		{"/kubepods/pod1/x", systemd, Cgroupfs, "/kubepods/pod1/x", true},
		{"/default/x", systemd, Cgroupfs, "/default/x", true},
		{"kubepods-pod1.slice:cri-containerd:x", chosen, Systemd, "kubepods-pod1.slice:cri-containerd:x", true},
		// No wish.
		{"/k8s.io/x", systemd, Systemd, "system.slice:cri-containerd:x", false},
		{"/k8s.io/x", cgroupfs, Cgroupfs, "/k8s.io/x", false},
		{"/k8s.io/x", chosen, Cgroupfs, "/k8s.io/x", false},
		{"/k8s.io/x", stale, Cgroupfs, "/k8s.io/x", false},
		{"/k8s.io/x/y", systemd, Cgroupfs, "/k8s.io/x/y", true},
		{"/k8s.io/", systemd, Cgroupfs, "/k8s.io/", true},
		// No systemd.
		{"system.slice:q:x", cgroupfs, Cgroupfs, "/system.slice/q-x.scope", true},
		{"system.slice:q:x", stale, Cgroupfs, "/system.slice/q-x.scope", true},
		{":q:x", cgroupfs, Cgroupfs, "/system.slice/q-x.scope", true},
		{"-.slice:q:x", cgroupfs, Cgroupfs, "/q-x.scope", true},
		{"a-b.slice:q:x", cgroupfs, Cgroupfs, "/a.slice/a-b.slice/q-x.scope", true},
		{"a-b-c.slice::x", cgroupfs, Cgroupfs, "/a.slice/a-b.slice/a-b-c.slice/x.scope", true},
		{"a.slice:q:a-x.slice", cgroupfs, Cgroupfs, "/a.slice/a-x.slice", true},
	} {
		p, err := Translate(tc.path, tc.node)
		if err != nil {
			t.Errorf("%q on %+v: %v", tc.path, tc.node, err)
			continue
		}
		if p.Driver != tc.driver || p.Path != tc.want || (p.Disagreement != nil) != tc.disagree || p.Rewritten != (tc.path != tc.want) {
			t.Errorf("%q on %+v: %+v, want %s %q", tc.path, tc.node, p, tc.driver, tc.want)
		}
		if p.Disagreement != nil && !strings.Contains(p.Disagreement.String(), string(p.Driver)) {
			t.Errorf("%q: the message %q does not name %s", tc.path, p.Disagreement, p.Driver)
		}
	}
	for _, path := range []string{"a:b:c", "a--b.slice:q:x", ".slice:q:x", "-a.slice:q:x", "a.slice:q:", "a.slice::.."} {
		if p, err := Translate(path, cgroupfs); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %+v, %v", path, p, err)
		}
		// systemd itself judges what it is given.
		if p, err := Translate(path, systemd); err != nil || p.Path != path {
			t.Errorf("%q with systemd: %+v, %v", path, p, err)
		}
	}
}

func TestParseDriver(t *testing.T) {
	for _, s := range []string{"", "systemd", "cgroupfs"} {
		if d, err := ParseDriver(s); err != nil || string(d) != s {
			t.Errorf("%q: %q, %v", s, d, err)
		}
	}
	if _, err := ParseDriver("auto"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

// Whatever a client writes as its path, it stays inside the hierarchy.
func TestFSPathIsContained(t *testing.T) {
	for path, want := range map[string]string{"../../etc": "/etc", "/a/../../b": "/b", "": "/", "a//b/": "/a/b"} {
		if got, err := fsPath(path); err != nil || got != want {
			t.Errorf("%q: %q, %v", path, got, err)
		}
	}
}
