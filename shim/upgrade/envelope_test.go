// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

type plain struct{}

func (plain) Start(c *exec.Cmd) error { return c.Start() }
func (plain) Wait(c *exec.Cmd) error  { return c.Wait() }

func TestEnvelope(t *testing.T) {
	f, err := Seal(V1, map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it can be changed")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("it can be cut")
	}
	for range 2 { // by the check and by the image that takes over
		e, err := Open(f)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := e.Decode(&got); err != nil || e.Version != V1 || got["a"] != "b" {
			t.Errorf("%+v, %v, %v", e, got, err)
		}
	}
	if err := (Envelope{Version: V1, Body: []byte(`[1]`)}).Decode(&map[string]string{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("another shape: %v", err)
	}
}

func TestUnencodable(t *testing.T) {
	if _, err := Seal(V1, make(chan int)); !errdefs.IsInternal(err) {
		t.Error(err)
	}
}

func TestBadEnvelopes(t *testing.T) {
	e := Envelope{Version: V2, Body: []byte(`{"a":1}`)}
	good := append(e.header(), e.Body...)
	if _, err := parse(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := parse(good[:n]); !errdefs.IsInvalidArgument(err) {
			t.Errorf("cut after %d: %v", n, err)
		}
		for _, flip := range []byte{1, 0x80} {
			bad := slices.Clone(good)
			bad[n] ^= flip
			_, err := parse(bad)
			version := n >= versionAt && n < lengthAt
			if !errdefs.IsInvalidArgument(err) && !(version && (errdefs.IsNotImplemented(err) || err == nil)) {
				t.Errorf("byte %d: %v", n, err)
			}
		}
	}
	if _, err := parse(append(slices.Clone(good), ' ')); !errdefs.IsInvalidArgument(err) {
		t.Errorf("longer: %v", err)
	}
	for _, v := range []int{0, newest + 1, 1 << 31} {
		e.Version = v
		if _, err := parse(append(e.header(), e.Body...)); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "this build reads 1, 2") {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

// FuzzEnvelope: whatever an image is given, it says what is wrong with it, and
// takes for an envelope only what is one.
func FuzzEnvelope(f *testing.F) {
	for _, e := range []Envelope{{V1, []byte(`{}`)}, {V2, []byte(`{"containers":[{"id":"a"}]}`)}, {0, nil}, {newest + 1, []byte(`x`)}} {
		whole := append(e.header(), e.Body...)
		f.Add(whole)
		f.Add(whole[:len(whole)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parse(data)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) && !errdefs.IsNotImplemented(err) {
				t.Fatalf("%v has no class", err)
			}
			return
		}
		if again := append(e.header(), e.Body...); !bytes.Equal(again, data) {
			t.Fatalf("%x was read as %x", data, again)
		}
		var v map[string]json.RawMessage
		if err := e.Decode(&v); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatal(err)
		}
	})
}

func TestCommon(t *testing.T) {
	for _, tc := range []struct {
		theirs []int
		want   int
	}{{[]int{1}, 1}, {[]int{1, 2}, 2}, {[]int{2, 3}, 2}, {[]int{3, 4}, 0}, {nil, 0}} {
		got, err := Common(tc.theirs)
		if got != tc.want || (err != nil) != (tc.want == 0) {
			t.Errorf("with %v: %d, %v", tc.theirs, got, err)
		}
		if err != nil && !errdefs.IsNotImplemented(err) {
			t.Errorf("with %v: %v", tc.theirs, err)
		}
	}
}

func script(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask has no say
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(script(t, 0o755, ""), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ path, says string }{
		"relative":     {"bin/shim", "is not an absolute path"},
		"missing":      {"/no/such/shim", "does not exist"},
		"below a file": {"/etc/passwd/shim", "does not exist"},
		"directory":    {dir, "is not a regular file"},
		"data":         {script(t, 0o644, ""), "is not executable"},
		"others'":      {script(t, 0o777, ""), "can be changed by others"},
		"NUL":          {"/bin/\x00", "is not an absolute path"},
	} {
		if _, err := Find(tc.path); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := script(t, 0o755, "")
	if err := os.Chown(foreign, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(foreign); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "uid 12345") {
		t.Errorf("another user's: %v", err)
	}
	b, err := Find(filepath.Join(dir, "link")) // what it leads to is looked at
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
}

// TestCheck asks real programs. The shell reads its script by the name that it is
// given, so that one is executed by its descriptor only through /proc, as here.
func TestCheck(t *testing.T) {
	envelope, err := Seal(V1, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	defer envelope.Close()
	for name, tc := range map[string]struct {
		text     string
		envelope *os.File
		says     string
	}{
		"good":           {"#!/bin/sh\n[ \"$1\" = -takeover-check=3 ] && echo '{\"versions\":[1,2],\"version\":\"9\",\"envelope\":true}'\n", envelope, ""},
		"no envelope":    {"#!/bin/sh\necho '{\"versions\":[1]}'\n", envelope, "has not read the envelope"},
		"not asked":      {"#!/bin/sh\necho '{\"versions\":[1]}'\n", nil, ""},
		"exits":          {"#!/bin/sh\necho what it says >&2\nexit 1\n", envelope, "exit status 1: what it says"},
		"rubbish":        {"#!/bin/sh\necho rubbish\n", nil, "invalid character"},
		"hangs":          {"#!/bin/sh\nsleep 1000 & wait\n", nil, "did not answer in time"},
		"no program":     {"rubbish", nil, "exec format error"},
		"wrong machine":  {"\x7fELF\x01\x01\x01", nil, "exec format error"},
		"floods":         {"#!/bin/sh\nhead -c 1000000 /dev/zero; exit 1\n", nil, "exit status 1"},
		"reads envelope": {"#!/bin/sh\nhead -c 8 /dev/fd/3 | grep -q quoin-up && echo '{\"versions\":[1],\"envelope\":true}'\n", envelope, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Find(script(t, 0o755, tc.text))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			limit := patience
			if name == "hangs" {
				limit = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			a, err := b.checkScript(ctx, tc.envelope)
			switch {
			case tc.says == "" && err != nil:
				t.Error(err)
			case tc.says == "" && len(a.Versions) == 0:
				t.Errorf("%+v", a)
			case tc.says != "" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tc.says)):
				t.Error(err)
			}
		})
	}
}

// checkScript lets the descriptor of the binary live in the child: an interpreter
// opens it once more.
func (b *Binary) checkScript(ctx context.Context, envelope *os.File) (Answer, error) {
	undo, err := Inherit([]int{b.fd})
	if err != nil {
		return Answer{}, err
	}
	defer undo()
	return b.Check(ctx, plain{}, envelope)
}
