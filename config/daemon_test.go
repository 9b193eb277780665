// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
)

func TestDaemonValidate(t *testing.T) {
	long := "/" + strings.Repeat("x", 120)
	for _, tc := range []struct {
		name   string
		change func(*Daemon)
		want   string // part of the error; "" for none
	}{
		{"default", func(*Daemon) {}, ""},
		{"relative root", func(d *Daemon) { d.Root = "var" }, `root "var": must be an absolute path`},
		{"relative state", func(d *Daemon) { d.State = "" }, `state "": must be an absolute path`},
		{"same", func(d *Daemon) { d.State = d.Root + "/" }, "they must differ"},
		{"no address", func(d *Daemon) { d.Address = "" }, "gRPC address is empty"},
		{"long address", func(d *Daemon) { d.Address = long }, "choose a shorter one"},
		{"address without room for .ttrpc", func(d *Daemon) { d.Address = long[:103] }, "choose a shorter one"},
		{"longest address", func(d *Daemon) { d.Address = long[:101] }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := DefaultDaemon()
			tc.change(&d)
			err := d.Validate()
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestSocketsFollowTheState(t *testing.T) {
	d := DefaultDaemon()
	if got, want := d.TTRPCAddress(), "/run/quoind/quoind.sock.ttrpc"; got != want {
		t.Errorf("ttrpc address %q, want %q", got, want)
	}
	d.State = "/" + strings.Repeat("s", 39) // 42 bytes with "/s"
	if got, want := d.ShimSocketDir(), d.State+"/s"; got != want {
		t.Errorf("directory %q, want %q", got, want)
	}
	d.State += "s"
	if got, want := d.ShimSocketDir(), "/run/quoind/s"; got != want {
		t.Errorf("directory %q for a long state, want %q", got, want)
	}
	if got, want := d.NRISocket(), d.State+"/nri.sock"; got != want {
		t.Errorf("NRI socket %q, want %q", got, want)
	}
	d.State = "/" + strings.Repeat("s", 98) // 108 bytes with "/nri.sock"
	if got := d.NRISocket(); got != "" {
		t.Errorf("NRI socket %q of %d bytes, want none", got, len(got))
	}
}

func TestVersionText(t *testing.T) {
	version, revision := Version, Revision
	t.Cleanup(func() { Version, Revision = version, revision })
	Version, Revision = "1.2.3", ""
	if got := VersionText(); got != "1.2.3" {
		t.Errorf("%q", got)
	}
	Revision = "abc.m"
	if got := VersionText(); got != "1.2.3 (revision abc.m)" {
		t.Errorf("%q", got)
	}
}
