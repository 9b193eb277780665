// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

var (
	oldCrun  = level{Name: "crun 1.8.1", Spec: "1.0.0", Max: numbers{1, 0, 2}, Crun: true, Release: numbers{1, 8, 1}}
	oldOther = level{Name: "other 1.0", Spec: "1.0.2-dev", Max: numbers{1, 0, 2}}
	newOther = level{Name: "other 2.0", Spec: "1.2.0", Max: numbers{1, 2, 0}}
)

func TestLowerSpec(t *testing.T) {
	for name, tc := range map[string]struct {
		spec  string
		level level
		want  string // "" when nothing is changed
	}{
		"first":     {`{"ociVersion":"1.3.0","x":1}`, oldCrun, `{"ociVersion":"1.0.0","x":1}`},
		"not newer": {`{"ociVersion":"1.0.0"}`, oldCrun, ``},
		"any 1.0":   {`{"ociVersion":"1.0.2-dev","linux":{"intelRdt":{"closID":"x"}}}`, oldCrun, ``},
		"older":     {`{"ociVersion":"0.9.0"}`, oldCrun, ``},
		"same":      {`{"ociVersion":"1.0.2"}`, oldOther, ``},
		"as said":   {`{"ociVersion":"1.1.0+dev"}`, oldOther, `{"ociVersion":"1.0.2-dev"}`},
		"bytes": {
			"\n {\t\"big\" : 12345678901234567890.50e1 , \"u\\u00e9\":[1, {\"ociVersion\":\"9.9.9\"}],\"html\":\"<&>\",  \"ociVersion\"  :\n \"1.3\\u002e0\" , \"z\":null } \n", oldOther,
			"\n {\t\"big\" : 12345678901234567890.50e1 , \"u\\u00e9\":[1, {\"ociVersion\":\"9.9.9\"}],\"html\":\"<&>\",  \"ociVersion\"  :\n \"1.0.2-dev\" , \"z\":null } \n",
		},
		"what crun honours": {
			`{"linux":{"seccomp":{"defaultErrnoRet":1,"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"errnoRet":38}]},"resources":{"unified":{"memory.high":"1"}}},"ociVersion":"1.3.0"}`, oldCrun,
			`{"linux":{"seccomp":{"defaultErrnoRet":1,"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"errnoRet":38}]},"resources":{"unified":{"memory.high":"1"}}},"ociVersion":"1.0.0"}`,
		},
		"says nothing": {
			`{"ociVersion":"1.3.0","domainname":"","linux":{"netDevices":{},"memoryPolicy":null,"intelRdt":{"schemata":[],"enableMonitoring":false}}}`, newOther,
			`{"ociVersion":"1.2.0","domainname":"","linux":{"netDevices":{},"memoryPolicy":null,"intelRdt":{"schemata":[],"enableMonitoring":false}}}`,
		},
		"known by its version": {`{"ociVersion":"1.3.0","domainname":"x","mounts":[{"options":["idmap"]}]}`, newOther, `{"ociVersion":"1.2.0","domainname":"x","mounts":[{"options":["idmap"]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			must(t, os.WriteFile(path, []byte(tc.spec), 0o600))
			must(t, os.Chmod(path, 0o646))
			lowered, err := lowerSpec(path, tc.level)
			must(t, err)
			want := tc.want
			if want == "" {
				want = tc.spec
			}
			got, err := os.ReadFile(path)
			must(t, err)
			if lowered != (tc.want != "") || string(got) != want {
				t.Errorf("lowered %v\ngot  %s\nwant %s", lowered, got, want)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o646 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
		})
	}
}

func TestLowerSpecRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		spec  string
		level level
		says  []string
	}{
		"domainname":   {`{"ociVersion":"1.3.0","domainname":"x"}`, oldOther, []string{"domainname", "1.1.0", "other 1.0 knows only 1.0.2-dev"}},
		"errnoRet":     {`{"ociVersion":"1.3.0","linux":{"seccomp":{"syscalls":[{},{"errnoRet":0}]}}}`, oldOther, []string{"linux.seccomp.syscalls[].errnoRet"}},
		"scheduler":    {`{"ociVersion":"1.3.0","process":{"scheduler":{"policy":"SCHED_IDLE"}}}`, oldCrun, []string{"process.scheduler", "crun 1.8.1"}},
		"time":         {`{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"pid"},{"type":"time"}]}}`, oldCrun, []string{`linux.namespaces[].type "time"`}},
		"netDevices":   {`{"ociVersion":"1.3.0","linux":{"netDevices":{"eth0":{}}}}`, newOther, []string{"linux.netDevices", "1.3.0", "other 2.0"}},
		"idmap":        {`{"ociVersion":"1.3.0","mounts":[{"options":["ro","ridmap"]}]}`, oldOther, []string{`mounts[].options[] "ridmap"`, "1.2.0"}},
		"new action":   {`{"ociVersion":"1.3.0","linux":{"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"}}}`, oldOther, []string{"SCMP_ACT_NOTIFY"}},
		"not json":     {`{"ociVersion":"1.3.0"`, oldCrun, []string{"malformed"}},
		"not object":   {`["ociVersion"]`, oldCrun, []string{"malformed", "not an object"}},
		"no version":   {`{}`, oldCrun, []string{"no ociVersion"}},
		"twice":        {`{"ociVersion":"1.3.0","ociVersion":"1.3.0"}`, oldCrun, []string{"twice"}},
		"not a string": {`{"ociVersion":1.3}`, oldCrun, []string{"malformed"}},
		"no number":    {`{"ociVersion":"new"}`, oldCrun, []string{"not a version"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			must(t, os.WriteFile(path, []byte(tc.spec), 0o600))
			_, err := lowerSpec(path, tc.level)
			wantError(t, err, errdefs.IsInvalidArgument, tc.says...)
			if got, err := os.ReadFile(path); err != nil || string(got) != tc.spec {
				t.Errorf("the spec was changed: %s, %v", got, err)
			}
		})
	}
}

// The whole way with a runtime that refuses: one refusal for each process, then
// the specs are lowered before.
func TestLowering(t *testing.T) {
	f := ocitest.New(t)
	f.Set("create", ocitest.Failpoint{Times: 1, Exit: 1, Message: "unknown version specified"})
	f.Set("--version", ocitest.Failpoint{Stdout: "crun version 1.8.1\ncommit: f8a096\nspec: 1.0.0\n"})
	f.Set("features", ocitest.Failpoint{Exit: 1, Stderr: "unknown command features\n"})
	known := NewKnown()
	for i, id := range []string{"a", "b", "c"} {
		if id == "c" {
			known = NewKnown() // another shim, which finds the note
		}
		r := newRuntime(t, Config{Binary: f.Binary(), Root: f.Root(), Bundle: ocitest.Bundle(t, "true"), Known: known})
		rewriteVersion(t, r.cfg.Bundle, "1.3.0")
		pid := create(t, r, id, Stdio{})
		if v := readVersion(t, r.cfg.Bundle); v != "1.0.0" {
			t.Errorf("%s: ociVersion %s", id, v)
		}
		must(t, r.Delete(t.Context(), id, true))
		reap(t, pid)
		want := "create --version create delete" + strings.Repeat(" create delete", i)
		if got := strings.Join(f.Steps(), " "); got != want {
			t.Errorf("calls %s, want %s", got, want)
		}
	}
	// A novelty is refused, before and after the runtime is known.
	for _, k := range []*Known{known, NewKnown()} {
		r := newRuntime(t, Config{Binary: f.Binary(), Root: f.Root(), Bundle: t.TempDir(), Known: k})
		ocitest.WriteConfig(t, r.cfg.Bundle, map[string]any{"ociVersion": "1.3.0", "process": map[string]any{"args": []string{"true"}, "scheduler": map[string]any{"policy": "SCHED_IDLE"}}})
		f.Set("create", ocitest.Failpoint{Exit: 1, Message: "unknown version specified"})
		_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
		wantError(t, err, errdefs.IsInvalidArgument, "process.scheduler", "crun 1.8.1")
	}
	// A refusal that lowering cannot cure is passed on.
	r := newRuntime(t, Config{Binary: f.Binary(), Root: f.Root(), Bundle: ocitest.Bundle(t, "true")})
	rewriteVersion(t, r.cfg.Bundle, "1.0.0")
	_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
	wantError(t, err, nil, "OCI runtime create failed: unknown version specified")
	// A runtime that says nothing of versions cannot be helped.
	r.known = NewKnown()
	must(t, os.Remove(r.notePath()))
	f.Set("--version", ocitest.Failpoint{Stdout: "crun version 1.8.1\n"})
	_, err = r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
	wantError(t, err, nil, "does not say which version")
}

// A note is trusted only when nobody else could have written it.
func TestNote(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, noteName)
	want := note{ID: binaryID{Path: "/bin/crun", Ino: 1}, Level: oldCrun}
	if _, ok := readNote(path); ok {
		t.Error("a note out of nothing")
	}
	writeNote(path, want)
	if got, ok := readNote(path); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	must(t, os.Chmod(path, 0o666))
	if _, ok := readNote(path); ok {
		t.Error("a note that others can write is trusted")
	}
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	must(t, os.Chmod(path, 0o600))
	if _, ok := readNote(path); ok {
		t.Error("half a note is read")
	}
	must(t, os.Remove(path))
	must(t, os.Chmod(dir, 0o777))
	writeNote(path, want)
	if _, err := os.Stat(path); err == nil {
		t.Error("a note is left where others can replace it")
	}
}

func TestKnownForgets(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "runtime")
	must(t, os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755))
	first, err := identify(binary)
	must(t, err)
	must(t, os.Remove(binary))
	must(t, os.WriteFile(binary, []byte("#!/bin/sh\n:\n"), 0o755))
	second, err := identify(binary)
	must(t, err)
	if first == second {
		t.Error("a replaced binary is not told apart")
	}
}

func FuzzLowerSpec(f *testing.F) {
	f.Add([]byte(`{"ociVersion":"1.3.0","linux":{"seccomp":{"syscalls":[{"errnoRet":1}]}}}`))
	f.Add([]byte(" {\"a\":[{}], \"ociVersion\" : \"1.1.0\"}\n"))
	path := filepath.Join(f.TempDir(), "config.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		must(t, os.WriteFile(path, data, 0o600))
		lowered, err := lowerSpec(path, oldOther)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("error without a class: %v", err)
		}
		got, rerr := os.ReadFile(path)
		must(t, rerr)
		if !lowered {
			if !bytes.Equal(got, data) {
				t.Fatal("changed without saying so")
			}
			return
		}
		if !json.Valid(got) || !bytes.Contains(got, []byte(`"1.0.2-dev"`)) {
			t.Fatalf("bad result %q", got)
		}
		// The rest is the same, byte for byte.
		start, end, _, err := findVersion(data)
		must(t, err)
		if !bytes.HasPrefix(got, data[:start]) || !bytes.HasSuffix(got, data[end:]) {
			t.Fatalf("%q became %q", data, got)
		}
	})
}

func FuzzParseVersion(f *testing.F) {
	f.Add([]byte("runc version 1.1.5+ds1\ncommit: x\nspec: 1.0.2-dev\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, ok := parseVersion(data); ok {
			_ = v.SecurityWarning()
		}
	})
}

func rewriteVersion(t testing.TB, bundle, version string) {
	t.Helper()
	path := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(path)
	must(t, err)
	start, end, _, err := findVersion(data)
	must(t, err)
	must(t, os.WriteFile(path, []byte(string(data[:start])+`"`+version+`"`+string(data[end:])), 0o600))
}

func readVersion(t testing.TB, bundle string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	must(t, err)
	_, _, v, err := findVersion(data)
	must(t, err)
	return v
}
