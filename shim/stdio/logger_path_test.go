// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// loggerTree is a directory of permitted loggers with one in it, and one outside.
func loggerTree(t *testing.T) (dir, inside, outside string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "loggers")
	for _, d := range []string{dir, filepath.Join(root, "elsewhere"), filepath.Join(root, "loggers-not")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inside, outside = filepath.Join(dir, "log"), filepath.Join(root, "elsewhere", "log")
	for _, f := range []string{inside, outside, filepath.Join(root, "loggers-not", "log")} {
		if err := os.WriteFile(f, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, inside, outside
}

func TestPermittedLogger(t *testing.T) {
	dir, inside, outside := loggerTree(t)
	link := filepath.Join(filepath.Dir(dir), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		path string
		dirs []string
		want string
	}{
		"anywhere":            {outside, nil, outside},
		"inside":              {inside, []string{"/opt", dir}, inside},
		"directory by a link": {inside, []string{link}, inside},
		"program by a link":   {filepath.Join(link, "log"), []string{dir}, inside},
		"a detour":            {filepath.Join(dir, "..", "loggers", "log"), []string{dir}, inside},
		"all of the machine":  {inside, []string{"/"}, inside},
	} {
		if got, err := permittedLogger(tc.path, tc.dirs); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestLoggerIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, dir, inside, outside string) (path string)
		is     func(error) bool
		says   string
	}{
		"outside":     {func(_ *testing.T, _, _, outside string) string { return outside }, errdefs.IsPermissionDenied, "is in none of the directories"},
		"sibling":     {func(_ *testing.T, dir, _, _ string) string { return dir + "-not/log" }, errdefs.IsPermissionDenied, "is in none of the directories"},
		"a way out":   {func(_ *testing.T, dir, _, _ string) string { return dir + "/../elsewhere/log" }, errdefs.IsPermissionDenied, "is in none of the directories"},
		"none":        {func(_ *testing.T, dir, _, _ string) string { return dir + "/none" }, errdefs.IsInvalidArgument, "does not exist"},
		"a link out":  {linkOut, errdefs.IsPermissionDenied, "which is "},
		"for others":  {open("inside"), errdefs.IsPermissionDenied, "can be changed by others (mode 0777)"},
		"an open dir": {open("dir"), errdefs.IsPermissionDenied, "can be changed by others (mode 0777)"},
		"of a user":   {chown, errdefs.IsPermissionDenied, "belongs to user 12345"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, inside, outside := loggerTree(t)
			path := tc.change(t, dir, inside, outside)
			if got, err := permittedLogger(path, []string{dir}); !tc.is(err) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func linkOut(t *testing.T, dir, _, outside string) string {
	t.Helper()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func open(what string) func(*testing.T, string, string, string) string {
	return func(t *testing.T, dir, inside, _ string) string {
		t.Helper()
		if err := os.Chmod(map[string]string{"dir": dir, "inside": inside}[what], 0o777); err != nil {
			t.Fatal(err)
		}
		return inside
	}
}

func chown(t *testing.T, _, inside, _ string) string {
	t.Helper()
	if err := os.Chown(inside, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	return inside
}

// TestLoggerFromElsewhere: the whole way. Nothing is run and nothing is left.
func TestLoggerFromElsewhere(t *testing.T) {
	dir, _, outside := loggerTree(t)
	ran := filepath.Join(t.TempDir(), "ran")
	if err := os.WriteFile(outside, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := testOptions(t)
	o.LoggerDirs = []string{dir}
	if _, err := Open(testContext(t), Streams{Stdout: "binary://" + outside}, o); !errdefs.IsPermissionDenied(err) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
	inside := filepath.Join(dir, "log")
	if err := os.WriteFile(inside, []byte("#!/bin/sh\nexec 5>&-\ncat <&3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	io, err := Open(testContext(t), Streams{Stdout: "binary://" + inside}, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := io.Close(); err != nil {
		t.Error(err)
	}
}
