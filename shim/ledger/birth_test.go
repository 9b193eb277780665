// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func birth() Birth {
	return Birth{
		Shim:        Identity{Pid: 100, Start: 5000, Boot: "b"},
		Process:     Identity{Pid: 101, Start: 5001, Boot: "b"},
		CgroupsPath: "/a/b",
		Spool:       "/run/bundle",
	}
}

func TestBirth(t *testing.T) {
	bundle := t.TempDir()
	if _, err := ReadBirth(bundle); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	intent := birth()
	intent.Process = Identity{}
	for _, want := range []Birth{intent, birth()} {
		must(t, RecordBirth(bundle, want))
		if got, err := ReadBirth(bundle); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	info, err := os.Lstat(filepath.Join(bundle, "birth.json"))
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	for range 2 {
		must(t, RemoveBirth(bundle))
	}
	if entries, _ := os.ReadDir(bundle); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestExecBirths(t *testing.T) {
	bundle := t.TempDir()
	must(t, RecordBirth(bundle, birth()))
	ids := []string{"a", "a.json", "../x", "birth", "with space"}
	for i, id := range ids {
		b := birth()
		b.Process.Pid += i
		must(t, RecordExecBirth(bundle, id, b))
		if got, err := ReadExecBirth(bundle, id); err != nil || got.Exec != id || got.Process.Pid != b.Process.Pid {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
	}
	if err := RecordExecBirth(bundle, "", birth()); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("no id: %v", err)
	}
	births, err := ExecBirths(bundle)
	if err != nil || len(births) != len(ids) {
		t.Errorf("%d births, %v", len(births), err)
	}
	// One that is damaged does not hide the others.
	must(t, os.WriteFile(filepath.Join(bundle, "birth-bad.json"), []byte("{"), 0o600))
	must(t, os.Rename(filepath.Join(bundle, "birth-a.json"), filepath.Join(bundle, "birth-b.json")))
	births, err = ExecBirths(bundle)
	var corrupt *CorruptError
	if len(births) != len(ids)-1 || !errors.As(err, &corrupt) {
		t.Errorf("%d births, %v", len(births), err)
	}
	for _, id := range ids[1:] {
		must(t, RemoveExec(bundle, id))
	}
	if births, _ := ExecBirths(bundle); len(births) != 0 {
		t.Errorf("left: %v", births)
	}
}

func TestReadDamagedBirth(t *testing.T) {
	whole, err := json.Marshal(storedBirth{birth(), version})
	must(t, err)
	for name, content := range map[string]string{
		"empty":         "",
		"cut off":       string(whole[:len(whole)/2]),
		"null":          "null",
		"two records":   string(whole) + string(whole),
		"no shim":       `{"Process":{"Pid":1,"Start":1,"Boot":"b"}}`,
		"no start time": `{"Shim":{"Pid":1,"Boot":"b"}}`,
		"half a child":  `{"Shim":{"Pid":1,"Start":1,"Boot":"b"},"Process":{"Pid":7}}`,
		"negative pid":  `{"Shim":{"Pid":-1,"Start":1,"Boot":"b"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			bundle := t.TempDir()
			must(t, os.WriteFile(filepath.Join(bundle, "birth.json"), []byte(content), 0o600))
			var corrupt *CorruptError
			if got, err := ReadBirth(bundle); !errors.As(err, &corrupt) {
				t.Fatalf("got %+v, %v", got, err)
			}
		})
	}
	t.Run("newer", func(t *testing.T) {
		bundle := t.TempDir()
		must(t, os.WriteFile(filepath.Join(bundle, "birth.json"), []byte(`{"QuoinVersion":2,"Shim":7}`), 0o600))
		var newer *VersionError
		if _, err := ReadBirth(bundle); !errors.As(err, &newer) {
			t.Fatal(err)
		}
	})
}

// FuzzBirth: whatever is in the file, the reader answers with a record that could
// have been written, or one of its errors.
func FuzzBirth(f *testing.F) {
	whole, err := json.Marshal(storedBirth{birth(), version})
	must(f, err)
	f.Add(whole)
	f.Add([]byte(`{"Shim":{"Pid":1,"Start":1,"Boot":"b"}}`))
	f.Add([]byte(`{"QuoinVersion":9}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		bundle := t.TempDir()
		must(t, os.WriteFile(filepath.Join(bundle, "birth.json"), in, 0o600))
		b, err := ReadBirth(bundle)
		if err != nil {
			var corrupt *CorruptError
			var newer *VersionError
			if !errors.As(err, &corrupt) && !errors.As(err, &newer) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		b.Exec = ""
		must(t, RecordBirth(bundle, b))
		if again, err := ReadBirth(bundle); err != nil || again != b {
			t.Fatalf("%+v became %+v, %v", b, again, err)
		}
	})
}

// BenchmarkRecordBirth is on the way of every create and exec.
func BenchmarkRecordBirth(b *testing.B) {
	bundle, err := os.MkdirTemp("/dev/shm", "ledger")
	must(b, err)
	defer os.RemoveAll(bundle)
	for b.Loop() {
		id, err := Identify(os.Getpid())
		must(b, err)
		must(b, RecordBirth(bundle, Birth{Shim: id, Process: id, CgroupsPath: "/a/b"}))
	}
}
