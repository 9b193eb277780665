// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A daemon that accepts and says nothing is a failure, and costs its deadline
// only.
func TestSilentDaemon(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.deadlines.gather = 500 * time.Millisecond
	l := f.listen(t, "/run/quoind/quoind.sock")
	accepted := make(chan net.Conn, 16)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	r := examine(t.Context(), f.host)
	must(t, l.Close())
	for conn := range accepted {
		conn.Close()
	}
	got := r.find(t, "programs.daemon")
	if got.Status != Fail || !strings.Contains(got.Message, "does not answer") {
		t.Errorf("%+v", got)
	}
	if d := r.find(t, "cgroup.driver"); !strings.Contains(d.Message, "computed on the spot") {
		t.Errorf("%+v", d)
	}
}

// What the configuration says of places counts until a daemon says better, and
// --address before either.
func TestPlaces(t *testing.T) {
	for name, tc := range map[string]struct {
		files                map[string]string
		address              string
		socket, root, states string
	}{
		"defaults":   {nil, "", "/run/quoind/quoind.sock", "/var/lib/quoind", "/run/quoind"},
		"configured": {file("/etc/quoind/config.toml", "root='/r'\nstate='/s'\n[plugins.'io.containerd.server.v1.grpc']\naddress='/s/x.sock'\n"), "", "/s/x.sock", "/r", "/s"},
		"version 3":  {file("/etc/quoind/conf.d/a.toml", "[grpc]\naddress='/s/y.sock'\n"), "", "/s/y.sock", "/var/lib/quoind", "/run/quoind"},
		"asked for":  {file("/etc/quoind/config.toml", "[grpc]\naddress='/s/y.sock'\n"), "/z/c.sock", "/z/c.sock", "/var/lib/quoind", "/z"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, tc.files)
			f.address = tc.address
			w := gather(t.Context(), f.host)
			defer w.close()
			if w.place.Address != tc.socket || w.place.Root != tc.root || w.place.State != tc.states {
				t.Errorf("%+v", w.place)
			}
		})
	}
	f := newFixture(t, nil).serve(t)
	f.daemon.plugins[1].Exports["state"] = "/elsewhere/state"
	f.daemon.plugins[2].Exports["root"] = "/elsewhere/root/io.containerd.content.v1.content"
	w := gather(t.Context(), f.host)
	defer w.close()
	if w.place.Root != "/elsewhere/root" || w.place.State != "/elsewhere/state" || filepath.Dir(w.place.ShimSocketDir()) != w.place.State {
		t.Errorf("%+v", w.place)
	}
}
