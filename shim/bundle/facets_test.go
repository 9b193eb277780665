// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const fullConfig = `{
 "ociVersion": "1.3.0", "unknown": {"deep": [1, {"x": null}]},
 "process": {"terminal": true, "user": {"uid": 1000, "gid": 2147483647, "additionalGids": [5]}, "args": ["sh"], "cwd": "/proc/sys/fd"},
 "root": {"path": "rootfs"},
 "annotations": {"io.kubernetes.cri.sandbox-id": "pod"},
 "hooks": {"poststop": [{"path": "/bin/true"}]},
 "linux": {"cgroupsPath": "a.slice:b:c", "namespaces": [{"type": "mount"}, {"type": "pid"}]}
}`

func TestFacets(t *testing.T) {
	for name, tc := range map[string]struct {
		config string
		want   Facets
	}{
		"all": {fullConfig, Facets{
			OCIVersion: "1.3.0", CgroupsPath: "a.slice:b:c", RootPath: "rootfs", Annotations: map[string]string{"io.kubernetes.cri.sandbox-id": "pod"},
			PrivatePIDNamespace: true, Poststop: true, Terminal: true, UID: 1000, GID: 2147483647, Cwd: "/proc/sys/fd",
		}},
		"none":           {`{}`, Facets{Annotations: map[string]string{}}},
		"nulls":          {`{"process":null,"linux":null,"hooks":null,"annotations":null,"root":null}`, Facets{Annotations: map[string]string{}}},
		"shared pid":     {`{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}`, Facets{Annotations: map[string]string{}}},
		"empty poststop": {`{"hooks":{"poststop":[],"prestart":[{}]}}`, Facets{Annotations: map[string]string{}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBundle(t)
			writeConfig(t, b, tc.config)
			got, err := b.Facets()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFacetsRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ config, says string }{
		"empty":           {``, "malformed"},
		"truncated":       {fullConfig[:200], "malformed"},
		"not an object":   {`[]`, "malformed"},
		"wrong type":      {`{"annotations":{"a":1}}`, "annotations"},
		"negative uid":    {`{"process":{"user":{"uid":-1}}}`, "process.user.uid -1"},
		"uid 2^31":        {`{"process":{"user":{"uid":2147483648}}}`, "process.user.uid 2147483648"},
		"gid 2^32":        {`{"process":{"user":{"gid":4294967296}}}`, "process.user.gid 4294967296"},
		"uid fraction":    {`{"process":{"user":{"uid":1.5}}}`, "process.user.uid 1.5"},
		"uid text":        {`{"process":{"user":{"uid":"0"}}}`, "process.user.uid"},
		"cwd fd":          {`{"process":{"cwd":"/proc/self/fd/7"}}`, "process.cwd"},
		"cwd fd dir":      {`{"process":{"cwd":"/proc/self/fd/"}}`, "process.cwd"},
		"cwd by pid":      {`{"process":{"cwd":"//proc/12/./fd/7/../.."}}`, "process.cwd"},
		"cwd around":      {`{"process":{"cwd":"/tmp/../proc/thread-self/fd/8/../../../etc"}}`, "process.cwd"},
		"cwd of cwd":      {`{"process":{"cwd":"/proc/1/cwd"}}`, "process.cwd"},
		"cwd of a thread": {`{"process":{"cwd":"/proc/1/task/1/fd/3"}}`, "process.cwd"},
		"cwd of root":     {`{"process":{"cwd":"/proc/1/root/etc"}}`, "process.cwd"},
		"cwd in /dev":     {`{"process":{"cwd":"/dev/fd/9"}}`, "process.cwd"},
		"cwd by stdin":    {`{"process":{"cwd":"/dev/../dev/stdin/.."}}`, "process.cwd"},
		"cwd relative":    {`{"process":{"cwd":"proc/self/fd/7"}}`, "not an absolute path"},
		"cwd above":       {`{"process":{"cwd":"../../etc"}}`, "not an absolute path"},
		"cwd dot":         {`{"process":{"cwd":"."}}`, "not an absolute path"},
		"additional gid":  {`{"process":{"user":{"additionalGids":[5,4294967296]}}}`, "process.user.additionalGids[1] 4294967296"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBundle(t)
			writeConfig(t, b, tc.config)
			_, err := b.Facets()
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("not an invalid argument: %v", err)
			}
			for _, s := range []string{tc.says, b.ConfigPath()} {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestFacetsFile(t *testing.T) {
	b := newBundle(t)
	if _, err := b.Facets(); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), b.ConfigPath()) {
		t.Errorf("no config.json: %v", err)
	}
	if err := os.Mkdir(b.ConfigPath(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Facets(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("config.json is a directory: %v", err)
	}
	if err := os.Remove(b.ConfigPath()); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(elsewhere, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, b.ConfigPath()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Facets(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("config.json is a link: %v", err)
	}
	if err := os.Remove(b.ConfigPath()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(b.ConfigPath(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Facets(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("config.json is a FIFO: %v", err)
	}
	if err := os.Remove(b.ConfigPath()); err != nil {
		t.Fatal(err)
	}
	writeConfig(t, b, "{}")
	if err := os.Truncate(b.ConfigPath(), maxConfig+1); err != nil { // sparse
		t.Fatal(err)
	}
	if _, err := b.Facets(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a giant config.json: %v", err)
	}
}

func FuzzFacets(f *testing.F) {
	f.Add([]byte(fullConfig))
	f.Add([]byte(`{"process":{"cwd":"/proc/self/fd/7","user":{"uid":-1}}}`))
	f.Add([]byte(`{"linux":{"namespaces":[{"type":"pid"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseFacets(data)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("error without a class: %v", err)
			}
			return
		}
		if got.Annotations == nil || got.UID > 1<<31-1 || got.GID > 1<<31-1 {
			t.Fatalf("bad facets: %+v", got)
		}
		if !json.Valid(data) {
			t.Fatal("malformed JSON was accepted")
		}
	})
}

func FuzzCheckProcess(f *testing.F) {
	f.Add([]byte(`{"cwd":"/","user":{"uid":0,"gid":0}}`))
	f.Add([]byte(`{"cwd":"/proc/self/fd/7"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := CheckProcess(data); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("error without a class: %v", err)
		}
	})
}

func BenchmarkFacets(b *testing.B) {
	bundle := newBundle(b)
	var config bytes.Buffer
	config.WriteString(fullConfig[:len(fullConfig)-1] + `,"mounts":[{}`)
	for range 300 {
		config.WriteString(`,{"destination":"/some/where/in/the/container","type":"bind","options":["rbind","ro"]}`)
	}
	config.WriteString("]}")
	writeConfig(b, bundle, config.String())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bundle.Facets(); err != nil {
			b.Fatal(err)
		}
	}
}

func writeConfig(t testing.TB, b *Bundle, config string) {
	t.Helper()
	if err := os.WriteFile(b.ConfigPath(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}
