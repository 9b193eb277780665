// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quoin-io/quoin/plugins/runtime/shims"
	"github.com/quoin-io/quoin/shim/control"
)

func TestShimTable(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	long := strings.Repeat("0123456789abcdef", 4)
	reports := []shims.Report{
		{Shim: shims.Shim{Namespace: "k8s.io", Bundles: []shims.Bundle{{ID: long}}}, Status: shims.OK, Info: control.Info{
			Version: "0.1.0", Revision: "abc", PID: 77, Started: now.Add(-26 * time.Hour),
			Containers: []control.Container{{ID: long}, {ID: "b"}},
			Memory:     control.Memory{RSS: 11 << 20, Private: 2<<20 + 1<<19}, Threads: 6, OpenFiles: 20, Orphans: 1,
		}},
		{Shim: shims.Shim{Namespace: "default", Bundles: []shims.Bundle{{ID: "web"}}}, Status: shims.Stuck, Err: errors.New("no answer")},
		{Shim: shims.Shim{Namespace: "default", Bundles: []shims.Bundle{{ID: "db"}}}, Status: shims.Gone, Err: errors.New("refused")},
	}
	rows := shimRows(reports, now)
	var out strings.Builder
	if err := shimTable(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	want := `NAMESPACE   ID              POD   STATUS   VERSION   PID   MEMORY   CONTAINERS   UPTIME
default     db              -     gone     -         -     -        1            -
default     web             -     stuck    -         -     -        1            -
k8s.io      0123456789abc   -     ok       0.1.0     77    2.5MiB   2            1d2h
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	if err := shimTable(&out, rows, true); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{long, "11MiB", "REVISION", "abc", "ORPHANS"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in:\n%s", text, &out)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", time.Minute: "1m0s", 3*time.Hour + 4*time.Minute + 5*time.Second: "3h4m", 50 * time.Hour: "2d2h",
	} {
		if got := duration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// The command finds shims beside the daemon's socket, or where --state says.
func TestShimsList(t *testing.T) {
	dir, err := os.MkdirTemp("", "q") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	stuck, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	for ns, id := range map[string]string{"one": "a", "two": "b"} {
		bundle := filepath.Join(dir, "io.containerd.runtime.v2.task", ns, id)
		if err := os.MkdirAll(bundle, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bundle, "bootstrap.json"), []byte(`{"address":"unix://`+filepath.Join(dir, "s")+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := []string{"--address", filepath.Join(dir, "quoind.sock")}
	for _, tc := range []struct {
		global, args []string
		want         string
	}{
		{address, []string{"-q"}, "a\nb\n"},
		{nil, []string{"--quiet", "--state", dir}, "a\nb\n"},
		{append([]string{"--namespace", "two"}, address...), []string{"-q"}, "b\n"},
		{append([]string{"--namespace", "none"}, address...), []string{"-q"}, ""},
		{append([]string{"--namespace", "none"}, address...), []string{"--json"}, "[]\n"},
	} {
		args := append(append(tc.global, "shims", "ls", "--answer-within", "50ms"), tc.args...)
		stdout, stderr, err := quoinctl(t, nil, args...)
		if err != nil || stdout != tc.want {
			t.Errorf("%q: %v, %q, %q", args, err, stdout, stderr)
		}
	}
	stdout, stderr, err := quoinctl(t, nil, append(address, "shims", "list", "--json", "--answer-within", "50ms")...)
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[0]["id"] != "a" || rows[0]["namespace"] != "one" || rows[0]["status"] != "stuck" || rows[0]["error"] == "" {
		t.Errorf("%v", rows)
	}
}

func TestShimsListErrors(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--state", "/none"}, "/none is no state directory of a daemon"},
		{[]string{"--json", "--quiet"}, "exclude one another"},
		{[]string{"more"}, `got "more"`},
	} {
		_, stderr, err := quoinctl(t, nil, append([]string{"shims", "ls"}, tc.args...)...)
		if err == nil || !strings.Contains(stderr, tc.want) {
			t.Errorf("%q: %v, %q", tc.args, err, stderr)
		}
	}
}
