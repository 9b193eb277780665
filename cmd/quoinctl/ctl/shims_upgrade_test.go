// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"

	"github.com/quoin-io/quoin/shim/control"
)

// upgradable is a shim as far as this command sees it.
type upgradable struct {
	id   string
	err  error
	asks chan control.UpgradeRequest
}

func (s *upgradable) Info(context.Context) (control.Info, error) {
	return control.Info{Version: "1", PID: 7, ID: s.id}, nil
}

func (s *upgradable) Upgrade(_ context.Context, r control.UpgradeRequest) (control.UpgradeResponse, error) {
	s.asks <- r
	if s.err != nil {
		return control.UpgradeResponse{}, errgrpc.ToGRPC(s.err)
	}
	return control.UpgradeResponse{PID: 7, From: control.Build{Version: "1"}, To: control.Build{Version: "2", Revision: "abc"}}, nil
}

// nodeWith makes a state directory with bundles, each in namespace ns, and their shims; a
// nil handler is a foreign one.
func nodeWith(t *testing.T, ns string, handlers map[string]control.Handler) (state string) {
	t.Helper()
	state, err := os.MkdirTemp("", "q") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	for id, h := range handlers {
		address := filepath.Join(state, id)
		l, err := net.Listen("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		server, err := ttrpc.NewServer()
		if err != nil {
			t.Fatal(err)
		}
		if h != nil {
			control.Register(server, h)
		}
		go func() { _ = server.Serve(context.Background(), l) }()
		t.Cleanup(func() { _ = server.Close() })
		bundle := filepath.Join(state, "io.containerd.runtime.v2.task", ns, id)
		if err := os.MkdirAll(bundle, 0o700); err != nil {
			t.Fatal(err)
		}
		note := fmt.Sprintf(`{"address":"unix://%s"}`, address)
		if err := os.WriteFile(filepath.Join(bundle, "bootstrap.json"), []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return state
}

func TestShimsUpgrade(t *testing.T) {
	good := &upgradable{id: "good", asks: make(chan control.UpgradeRequest, 9)}
	bad := &upgradable{id: "bad", asks: make(chan control.UpgradeRequest, 9), err: fmt.Errorf("the shim is busy: %w", errdefs.ErrUnavailable)}
	state := nodeWith(t, "n", map[string]control.Handler{"good": good, "bad": bad, "foreign": nil})

	stdout, stderr, err := quoinctl(t, nil, "shims", "upgrade", "--state", state, "--to", "bin/../shim", "good")
	if err != nil || !strings.HasPrefix(stdout, "[1/1] n/good upgraded: 1 -> 2 (abc), pid 7, ") || !strings.HasSuffix(stdout, "\n1 upgraded, 0 failed, 0 skipped\n") {
		t.Errorf("%v, %q, %q", err, stdout, stderr)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if r := <-good.asks; r.Path != filepath.Join(wd, "shim") || r.Deadline.Seconds() != 10 {
		t.Errorf("%+v", r)
	}

	stdout, stderr, err = quoinctl(t, nil, "shims", "upgrade", "--state", state, "--all", "--rest", "3s")
	if err == nil || !strings.Contains(stderr, "1 of 3 shims were not upgraded") || !strings.Contains(stdout, "n/foreign skipped: foreign\n") ||
		!strings.Contains(stdout, "n/bad failed: ") || !strings.Contains(stdout, "the shim is busy") || !strings.HasSuffix(stdout, "\n1 upgraded, 1 failed, 1 skipped\n") {
		t.Errorf("%v, %q, %q", err, stdout, stderr)
	}
	if r := <-good.asks; r.Path != "" || r.Deadline.Seconds() != 3 {
		t.Errorf("%+v", r)
	}

	stdout, _, err = quoinctl(t, nil, "shims", "upgrade", "--state", state, "--all", "--json", "--parallel", "1")
	if err == nil {
		t.Error("it says that all went well")
	}
	var rows []upgradeRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
		t.Fatalf("%q: %v", stdout, err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, r.ID+" "+r.Result)
	}
	if want := []string{"bad failed", "foreign skipped", "good upgraded"}; !slices.Equal(got, want) || rows[2].To.Version != "2" || rows[0].Error == "" {
		t.Errorf("%s", stdout)
	}
}

func TestShimsUpgradeErrors(t *testing.T) {
	one := &upgradable{id: "abc1", asks: make(chan control.UpgradeRequest, 9)}
	two := &upgradable{id: "abc2", asks: make(chan control.UpgradeRequest, 9)}
	state := nodeWith(t, "n", map[string]control.Handler{"abc1": one, "abc2": two, "foreign": nil})
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "name shims, or all of them with --all"},
		{[]string{"--all", "abc1"}, "but not both"},
		{[]string{"--parallel", "0", "--all"}, "--parallel must be at least 1"},
		{[]string{"--state", state, "abc"}, `2 shims serve a container "abc"`},
		{[]string{"--state", state, "xyz"}, `no shim serves a container "xyz"`},
		{[]string{"--state", state, "foreign"}, "1 of 1 shims were not upgraded"}, // it was asked for
		{[]string{"--state", "/none", "--all"}, "/none is no state directory of a daemon"},
	} {
		_, stderr, err := quoinctl(t, nil, append([]string{"shims", "upgrade"}, tc.args...)...)
		if err == nil || !strings.Contains(stderr, tc.want) {
			t.Errorf("%q: %v, %q", tc.args, err, stderr)
		}
	}
	// A beginning will do if it is one shim's alone, and a shim is upgraded once.
	stdout, stderr, err := quoinctl(t, nil, "shims", "upgrade", "--state", state, "abc1", "abc1")
	if err != nil || len(one.asks) != 1 || len(two.asks) != 0 {
		t.Errorf("%v, %q, %q", err, stdout, stderr)
	}
}

// failing is a writer whose disk is full.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestShimsUpgradeKeepsGoingWithoutOutput(t *testing.T) {
	u := upgrader{total: 1, lines: failing{}}
	u.done(upgradeRow{Result: failed})
	if len(u.rows) != 1 || u.err == nil {
		t.Errorf("%+v, %v", u.rows, u.err)
	}
}
