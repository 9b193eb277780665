// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/errdefs"
)

func TestGroup(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"alone":           {nil, "c1"},
		"pod":             {map[string]string{SandboxAnnotation: "pod"}, "pod"},
		"own group first": {map[string]string{SandboxAnnotation: "pod", GroupAnnotation: "g"}, "g"},
		"empty is unset":  {map[string]string{SandboxAnnotation: "pod", GroupAnnotation: ""}, "pod"},
	} {
		if got := Group(tc.annotations, "c1"); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestSocketPathIsContainerds compares with the function that "ctr shim" uses.
func TestSocketPathIsContainerds(t *testing.T) {
	for _, tc := range []struct{ dir, grpc, ns, group string }{
		{"", "/run/containerd/containerd.sock", "k8s.io", "0123"},
		{"/run/q/s", "/run/q//c.sock", "default", "a.b-c_d"},
		{"/run/q/s", "", "moby", "group/with/slashes"},
		{"/run/q/s", "unix:///run/x.sock", "moby", "1"},
	} {
		got, err := SocketPath(tc.dir, tc.grpc, tc.ns, tc.group)
		if err != nil {
			t.Fatal(err)
		}
		dir := tc.dir
		if dir == "" {
			dir = "/run/containerd/s"
		}
		want, err := shim.CreateSocketAddress(namespaces.WithNamespace(context.Background(), tc.ns), dir, tc.grpc, tc.group, false)
		if err != nil {
			t.Fatal(err)
		}
		if Address(got) != want {
			t.Errorf("%+v: %s, containerd has %s", tc, Address(got), want)
		}
	}
}

func TestSocketPathRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ dir, ns, group, text string }{
		"too long":                {"/run/" + strings.Repeat("x", 37), "ns", "g", "at most 41 bytes"},
		"relative directory":      {"s", "ns", "g", "absolute"},
		"empty group":             {"", "ns", "", "leads out"},
		"group is its namespace":  {"", "ns", ".", "leads out"},
		"into another namespace":  {"", "ns", "../k8s.io/pod", "leads out"},
		"an absolute group":       {"", "ns", "/x", "leads out"},
		"a namespace with a path": {"", "../ns", "g", "single path element"},
	} {
		got, err := SocketPath(tc.dir, "/run/c.sock", tc.ns, tc.group)
		if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if p, err := SocketPath("/run/"+strings.Repeat("x", 36), "", "ns", "g"); err != nil || len(p) != maxSocketPath {
		t.Errorf("the longest directory: %d bytes, %v", len(p), err)
	}
}

func TestDialRefuses(t *testing.T) {
	for _, address := range []string{"", "/run/x", "@x", "\x00x", "unix://@x", "unix://x", "unix://\x00x", "vsock://1:2", "unix:///a\x00b"} {
		if conn, err := Dial(t.Context(), address); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %v, %v", address, conn, err)
		}
	}
	if conn, err := Dial(t.Context(), Address(t.TempDir()+"/none")); err == nil {
		conn.Close()
		t.Error("connected to nothing")
	}
}
