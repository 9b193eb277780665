// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestParseTarget(t *testing.T) {
	for value, want := range map[string]target{
		"":                               {},
		"/run/x":                         {kind: kindPath, path: "/run/x"},
		"/run/a b%20?c#d:é":              {kind: kindPath, path: "/run/a b%20?c#d:é"},
		"fifo:///run/x":                  {kind: kindFIFO, path: "/run/x"},
		"file:///var/a%20b":              {kind: kindFile, path: "/var/a b"},
		"binary:///bin/l":                {kind: kindBinary, path: "/bin/l"},
		"binary-v2:///bin/l?":            {kind: kindBinaryV2, path: "/bin/l"},
		"binary:///bin/l?id=":            {kind: kindBinary, path: "/bin/l", args: []string{"id", ""}},
		"binary:///bin/l?b&a=":           {kind: kindBinary, path: "/bin/l", args: []string{"b", "", "a", ""}},
		"binary:///l?z=1&--a=%2Fx+y&z=2": {kind: kindBinary, path: "/l", args: []string{"z", "1", "--a", "/x y"}},
	} {
		got, err := parseTarget(value)
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(target{})); d != "" {
			t.Errorf("%q: %s", value, d)
		}
	}
}

func TestRefusedNames(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s     Streams
		words []string
	}{
		"scheme":           {Streams{Stdout: "npipe:////./pipe/x"}, []string{"stdout", `unknown STDIO scheme "npipe"`}},
		"scheme of stderr": {Streams{Stderr: "ttrpc+unix:///x"}, []string{"stderr", "unknown STDIO scheme", "ttrpc+unix"}},
		"relative":         {Streams{Stdout: "out"}, []string{"absolute"}},
		"host":             {Streams{Stdout: "file://var/log/x"}, []string{"file:///path"}},
		"opaque":           {Streams{Stdout: "file:log"}, []string{"file:///path"}},
		"not a URI":        {Streams{Stdout: "%zz"}, []string{"stdout"}},
		"escape":           {Streams{Stdout: "binary:///bin/l?a=%zz"}, []string{"%zz"}},
		"NUL":              {Streams{Stdout: "/a\x00b"}, []string{"NUL"}},
		"NUL in argument":  {Streams{Stdout: "binary:///bin/l?a=%00"}, []string{"NUL"}},
		"stdin logger":     {Streams{Stdin: "binary:///bin/l"}, []string{"stdin"}},
		"stderr logger":    {Streams{Stdout: file, Stderr: "binary:///bin/l"}, []string{"stderr", "name it as stdout"}},
		"missing":          {Streams{Stdout: filepath.Join(dir, "none")}, []string{"none", "before the process"}},
		"missing stdin":    {Streams{Stdin: filepath.Join(dir, "none")}, []string{"stdin", "none"}},
		"directory":        {Streams{Stderr: dir}, []string{"directory"}},
		"no fifo":          {Streams{Stdout: "fifo://" + file}, []string{"not a named pipe"}},
		"terminal":         {Streams{Terminal: true, Stdout: "x:///y"}, []string{"unknown STDIO scheme"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t)
			_, err := Open(testContext(t), c.s, o)
			wantError(t, err, errdefs.ErrInvalidArgument, c.words...)
			if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"", "/x", "fifo:///x", "file:///a%20b", "binary:///l?a=b&c", "binary-v2:///l?%zz", "x:y", "file://h/p", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parseTarget(value)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v has no class", err)
			}
			return
		}
		if value != "" && !filepath.IsAbs(got.path) || strings.Contains(got.path+strings.Join(got.args, ""), "\x00") {
			t.Errorf("%q → %+v", value, got)
		}
		if len(got.args)%2 != 0 {
			t.Errorf("%q → odd arguments %q", value, got.args)
		}
		if !got.logger() {
			return
		}
		// Whatever net/url reads as arguments is here too.
		u, err := url.Parse(value)
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		for n := 0; n < len(got.args); n += 2 {
			if !strings.Contains(value, ";") && query.Get(got.args[n]) != got.args[n+1] {
				t.Errorf("%q: %q is %q, net/url says %q", value, got.args[n], got.args[n+1], query.Get(got.args[n]))
			}
		}
	})
}
