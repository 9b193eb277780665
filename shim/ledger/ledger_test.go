// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

var when = time.Date(2026, 11, 24, 7, 30, 1, 123456789, time.FixedZone("CET", 3600))

func sample() Exit { return Exit{At: when, Pid: 4711, Status: 137, Signal: 9, OOM: true} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, got, want Exit) {
	t.Helper()
	if !got.At.Equal(want.At) {
		t.Errorf("time %v, want %v", got.At, want.At)
	}
	got.At, want.At = time.Time{}, time.Time{}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRecordRead(t *testing.T) {
	bundle := t.TempDir()
	if _, err := Read(bundle); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("before: %v", err)
	}
	first := sample()
	must(t, Record(bundle, first))
	second := sample()
	second.Status, second.Signal, second.OOM = 0, 0, false
	must(t, Record(bundle, second))
	got, err := Read(bundle)
	must(t, err)
	same(t, got, second)
	info, err := os.Lstat(filepath.Join(bundle, "exit.json"))
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if entries, _ := os.ReadDir(bundle); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestRuncShim reads our record and writes its own as the runc shim does
// (cmd/containerd-shim-runc-v2/runc/util.go).
func TestRuncShim(t *testing.T) {
	bundle := t.TempDir()
	must(t, Record(bundle, sample()))
	b, err := os.ReadFile(filepath.Join(bundle, "exit.json"))
	must(t, err)
	var theirs runc.Exit
	must(t, json.Unmarshal(b, &theirs))
	if theirs.Pid != 4711 || theirs.Status != 137 || !theirs.Timestamp.Equal(when) {
		t.Errorf("the runc shim reads %+v", theirs)
	}
	b, err = json.Marshal(runc.Exit{Timestamp: when, Pid: 7, Status: 3})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(bundle, "exit.json"), b, 0o600))
	got, err := Read(bundle)
	must(t, err)
	same(t, got, Exit{At: when, Pid: 7, Status: 3})
}

func TestExecNames(t *testing.T) {
	bundle := t.TempDir()
	ids := []string{
		"a", "A", "exec-1", "a.b_c", "..", ".", "../../etc/passwd", "/", "a/b", "a\x00b", " ", "é", strings.Repeat("x", 300),
		strings.Repeat("y", 128), "json", "a.json", "@x", "exit",
	}
	for i, id := range ids {
		e := sample()
		e.Status = i
		must(t, RecordExec(bundle, id, e))
	}
	for _, id := range []string{"", "a\xffb"} {
		if err := RecordExec(bundle, id, sample()); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %v", id, err)
		}
	}
	must(t, Record(bundle, sample())) // must not meet any of them
	for i, id := range ids {
		got, err := ReadExec(bundle, id)
		if err != nil || got.Status != i || got.Exec != id {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
	}
	for _, id := range ids {
		must(t, RemoveExec(bundle, id))
		must(t, RemoveExec(bundle, id))
	}
	if entries, _ := os.ReadDir(bundle); len(entries) != 1 || entries[0].Name() != "exit.json" {
		t.Errorf("left behind: %v", entries)
	}
}

func TestRecordRefuses(t *testing.T) {
	bundle := t.TempDir()
	for name, change := range map[string]func(*Exit){
		"no pid":          func(e *Exit) { e.Pid = 0 },
		"no time":         func(e *Exit) { e.At = time.Time{} },
		"negative status": func(e *Exit) { e.Status = -1 },
		"negative signal": func(e *Exit) { e.Signal = -1 },
		"year 10000":      func(e *Exit) { e.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := sample()
		change(&e)
		if err := Record(bundle, e); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Record(filepath.Join(bundle, "none"), sample()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	must(t, os.Mkdir(filepath.Join(bundle, "exit.json"), 0o700))
	if err := Record(bundle, sample()); !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EEXIST) {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(bundle); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestNoLinkIsFollowed(t *testing.T) {
	bundle, outside := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	valid, err := encode(sample())
	must(t, err)
	must(t, os.WriteFile(outside, valid, 0o600))
	must(t, os.Symlink(outside, filepath.Join(bundle, "exit.json")))
	var corrupt *CorruptError
	if _, err := Read(bundle); !errors.As(err, &corrupt) {
		t.Errorf("read: %v", err)
	}
	e := sample()
	e.Status = 5
	must(t, Record(bundle, e))
	if b, _ := os.ReadFile(outside); string(b) != string(valid) {
		t.Errorf("written through the link: %s", b)
	}
	got, err := Read(bundle)
	must(t, err)
	same(t, got, e)
}

func TestReadDamaged(t *testing.T) {
	valid, err := encode(sample())
	must(t, err)
	for name, content := range map[string]string{
		"empty":         "",
		"cut off":       string(valid[:len(valid)/2]),
		"zeros":         strings.Repeat("\x00", 100),
		"not an object": `[1]`,
		"null":          `null`,
		"two records":   string(valid) + string(valid),
		"trailing":      string(valid) + "x",
		"no pid":        `{"Timestamp":"2026-11-24T00:00:00Z","Status":1}`,
		"no time":       `{"Pid":1,"Status":1}`,
		"pid as text":   `{"Timestamp":"2026-11-24T00:00:00Z","Pid":"1","Status":1}`,
		"huge pid":      `{"Timestamp":"2026-11-24T00:00:00Z","Pid":1e300,"Status":1}`,
		"an exec's":     `{"Timestamp":"2026-11-24T00:00:00Z","Pid":1,"Status":1,"Exec":"e"}`,
		"too long":      string(valid) + strings.Repeat(" ", maxRecord),
	} {
		t.Run(name, func(t *testing.T) {
			bundle := t.TempDir()
			must(t, os.WriteFile(filepath.Join(bundle, "exit.json"), []byte(content), 0o600))
			got, err := Read(bundle)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !errors.Is(err, errdefs.ErrDataLoss) {
				t.Fatalf("got %+v, %v", got, err)
			}
		})
	}
	t.Run("FIFO", func(t *testing.T) {
		bundle := t.TempDir()
		must(t, unix.Mkfifo(filepath.Join(bundle, "exit.json"), 0o600))
		if _, err := Read(bundle); !errors.Is(err, errdefs.ErrDataLoss) {
			t.Fatal(err)
		}
	})
	t.Run("newer", func(t *testing.T) {
		bundle := t.TempDir()
		must(t, os.WriteFile(filepath.Join(bundle, "exit.json"), []byte(`{"QuoinVersion":2,"Pid":"changed"}`), 0o600))
		var newer *VersionError
		if _, err := Read(bundle); !errors.As(err, &newer) || newer.Version != 2 || !errors.Is(err, errdefs.ErrNotImplemented) {
			t.Fatal(err)
		}
	})
}

// TestReadersSeeWholeRecords reads while records replace one another.
func TestReadersSeeWholeRecords(t *testing.T) {
	bundle := t.TempDir()
	must(t, Record(bundle, sample()))
	done := make(chan struct{})
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for i := range 200 {
				e := sample()
				e.Status = i
				if err := Record(bundle, e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writers.Wait(); close(done) }()
	for {
		if _, err := Read(bundle); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			if entries, _ := os.ReadDir(bundle); len(entries) != 1 {
				t.Fatalf("left behind: %v", entries)
			}
			return
		default:
		}
	}
}

func FuzzDecode(f *testing.F) {
	valid, err := encode(sample())
	must(f, err)
	f.Add(valid)
	f.Add([]byte(`{"Timestamp":"2026-11-24T00:00:00Z","Pid":1,"Status":1}`))
	f.Add([]byte(`{"QuoinVersion":99}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := decode(in, "exit.json", "")
		var corrupt *CorruptError
		var newer *VersionError
		if err != nil {
			if !errors.As(err, &corrupt) && !errors.As(err, &newer) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		again, err := encode(e)
		if err != nil {
			t.Fatalf("read but not writable: %+v: %v", e, err)
		}
		if back, err := decode(again, "exit.json", ""); err != nil || !back.At.Equal(e.At) || back.Pid != e.Pid || back.Status != e.Status {
			t.Fatalf("%+v became %+v, %v", e, back, err)
		}
	})
}

// BenchmarkRecord is to stay under 100 µs on tmpfs: it is on the way of every exit.
func BenchmarkRecord(b *testing.B) {
	for _, root := range []string{"/dev/shm", os.TempDir()} {
		b.Run(strings.ReplaceAll(root[1:], "/", "-"), func(b *testing.B) {
			bundle, err := os.MkdirTemp(root, "ledger")
			must(b, err)
			defer os.RemoveAll(bundle)
			for b.Loop() {
				must(b, Record(bundle, sample()))
			}
		})
	}
}
