// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"errors"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

var testArgs = Args{
	ID:            "c1",
	Namespace:     "k8s.io",
	Address:       "/run/containerd/containerd.sock",
	PublishBinary: "/usr/bin/containerd",
	TTRPCAddress:  "/run/containerd/containerd.sock.ttrpc",
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bare is an Any the way typeurl makes it: without a prefix.
func bare(t testing.TB, m proto.Message) *anypb.Any {
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: encode(t, m)}
}

func bootParams(t testing.TB, extensions ...proto.Message) *bootapi.BootstrapParams {
	p := &bootapi.BootstrapParams{
		InstanceID:             "c1",
		Namespace:              "k8s.io",
		ContainerdVersion:      "v2.4.2",
		ContainerdGrpcAddress:  "/run/a.sock",
		ContainerdTtrpcAddress: "/run/a.sock.ttrpc",
		ContainerdBinary:       "/usr/bin/quoind",
	}
	for _, m := range extensions {
		if err := p.AddExtension(m); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestParseParamsBootstrap(t *testing.T) {
	runc := &runcoptions.Options{BinaryName: "crun", SystemdCgroup: true}
	toml := &runtimeoptions.Options{TypeUrl: "x", ConfigBody: []byte("BinaryName = 'crun'")}
	base := Params{
		ID: "c1", Namespace: "k8s.io", ContainerdVersion: "v2.4.2",
		GRPCAddress: "/run/a.sock", TTRPCAddress: "/run/a.sock.ttrpc", PublishBinary: "/usr/bin/quoind",
	}
	with := func(f func(*Params)) Params { p := base; f(&p); return p }
	for name, tc := range map[string]struct {
		in   *bootapi.BootstrapParams
		want Params
	}{
		"plain":        {bootParams(t), base},
		"runc options": {bootParams(t, bare(t, runc)), with(func(p *Params) { p.Options = Options{"containerd.runc.v1.Options", encode(t, runc)} })},
		"prefixed":     {bootParams(t, runc), with(func(p *Params) { p.Options = Options{"containerd.runc.v1.Options", encode(t, runc)} })},
		"TOML options": {bootParams(t, bare(t, toml)), with(func(p *Params) { p.Options = Options{"runtimeoptions.v1.Options", encode(t, toml)} })},
		"strangers are ignored": {bootParams(t, &types.MountCapabilities{Types: []string{"erofs"}}, runc, &types.Mount{}),
			with(func(p *Params) { p.Options = Options{"containerd.runc.v1.Options", encode(t, runc)} })},
		"debug": {func() *bootapi.BootstrapParams {
			p := bootParams(t)
			p.LogLevel = bootapi.LogLevel_LOG_LEVEL_TRACE
			return p
		}(), with(func(p *Params) { p.Debug = true })},
		"socket directory": {func() *bootapi.BootstrapParams {
			p := bootParams(t)
			p.SocketDir = proto.String("/run/q/s")
			return p
		}(), with(func(p *Params) { p.SocketDir = "/run/q/s" })},
		"the command line fills in": {&bootapi.BootstrapParams{InstanceID: "c1", Namespace: "k8s.io"},
			with(func(p *Params) {
				p.GRPCAddress, p.TTRPCAddress, p.PublishBinary = testArgs.Address, testArgs.TTRPCAddress, testArgs.PublishBinary
				p.ContainerdVersion = ""
			})},
		"an extension without a value": {func() *bootapi.BootstrapParams {
			p := bootParams(t)
			p.Extensions = append(p.Extensions, &bootapi.Extension{})
			return p
		}(), base},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseParams(encode(t, tc.in), testArgs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseParamsLegacy(t *testing.T) {
	runc := &runcoptions.Options{Root: "/run/r"}
	for name, tc := range map[string]struct {
		in   []byte
		want Options
	}{
		"empty input":   {nil, Options{}},
		"runc options":  {encode(t, bare(t, runc)), Options{"containerd.runc.v1.Options", encode(t, runc)}},
		"no values set": {encode(t, bare(t, &runcoptions.Options{})), Options{"containerd.runc.v1.Options", nil}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseParams(tc.in, testArgs)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Legacy || got.GRPCAddress != testArgs.Address || got.TTRPCAddress != testArgs.TTRPCAddress {
				t.Fatalf("got %+v", got)
			}
			if got.Options.TypeURL != tc.want.TypeURL || !bytes.Equal(got.Options.Value, tc.want.Value) {
				t.Fatalf("options %+v, want %+v", got.Options, tc.want)
			}
		})
	}
}

func TestParseParamsRefuses(t *testing.T) {
	other := bootParams(t)
	other.InstanceID = "c2"
	relative := bootParams(t)
	relative.SocketDir = proto.String("s")
	args := func(f func(*Args)) Args { a := testArgs; f(&a); return a }
	for name, tc := range map[string]struct {
		in   []byte
		args Args
	}{
		"garbage":                   {[]byte("\xff\xff\xff"), testArgs},
		"text":                      {[]byte("unix:///run/x"), testArgs},
		"another container's":       {encode(t, other), testArgs},
		"an unknown kind of option": {encode(t, bare(t, &types.Mount{Type: "bind"})), testArgs},
		"cut off":                   {encode(t, bootParams(t, &runcoptions.Options{Root: "/r"}))[:40], testArgs},
		"relative socket directory": {encode(t, relative), testArgs},
		"no id":                     {nil, args(func(a *Args) { a.ID = "" })},
		"no namespace":              {nil, args(func(a *Args) { a.Namespace = "" })},
		"id is a path":              {nil, args(func(a *Args) { a.ID = "../x" })},
		"id is the parent":          {nil, args(func(a *Args) { a.ID = ".." })},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseParams(tc.in, tc.args); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Fatalf("got %+v, %v", got, err)
			}
		})
	}
}

func FuzzParseParams(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(encode(f, bootParams(f, &runcoptions.Options{Root: "/r"})))
	f.Add(encode(f, bare(f, &runcoptions.Options{BinaryName: "crun"})))
	f.Add(encode(f, bare(f, &runtimeoptions.Options{ConfigPath: "/etc/q.toml"})))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParseParams(in, testArgs)
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		if p.ID != testArgs.ID || p.Namespace != testArgs.Namespace {
			t.Fatalf("input changed the identity: %+v", p)
		}
		if p.Options.TypeURL == "" && len(p.Options.Value) > 0 {
			t.Fatalf("options without a type: %+v", p.Options)
		}
	})
}
