// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func TestSetCgroupsPathTouchesNothingElse(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	const before = `{"x": {"cgroupsPath":"no"}, "linux" : { "cgroupsPath" :  "system.slice:q:x" , "unknown":1.50e3 }, "ü":"` + "\u2028" + `"}` + "\n"
	const after = `{"x": {"cgroupsPath":"no"}, "linux" : { "cgroupsPath" :  "/a \"b\"/c" , "unknown":1.50e3 }, "ü":"` + "\u2028" + `"}` + "\n"
	if err := os.WriteFile(b.ConfigPath(), []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := b.SetCgroupsPath(`/a "b"/c`); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(b.ConfigPath())
	if err != nil || string(got) != after {
		t.Fatalf("got %s (%v)\nwant %s", got, err, after)
	}
	st, err := os.Stat(b.ConfigPath())
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Fatalf("mode %v (%v), want 0640", st.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v (%v)", left, err)
	}
}

func TestSetCgroupsPathNeedsTheField(t *testing.T) {
	for _, config := range []string{`{}`, `{"linux":{}}`, `{"linux":[]}`, `{"linux":{"cgroupsPath":"x"`, `[]`, ``} {
		b, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.ConfigPath(), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.SetCgroupsPath("/x"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v, want ErrInvalidArgument", config, err)
		}
		if got, _ := os.ReadFile(b.ConfigPath()); string(got) != config {
			t.Errorf("%s became %s", config, got)
		}
	}
}
