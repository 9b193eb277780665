// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/program"
)

// busctl is a script in place of systemd's, which writes its arguments down.
type busctl struct {
	t   *testing.T
	dir string
}

// newBusctl puts a script into PATH. In it, hang is a command that takes as long
// as nobody calls release.
func newBusctl(t *testing.T, script string) *busctl {
	t.Helper()
	b := &busctl{t, t.TempDir()}
	if err := unix.Mkfifo(b.hold(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "#!/bin/sh\nhang() { read -r _ <" + b.hold() + "; }\necho \"$*\" >>" + b.calls() + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(b.dir, "busctl"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", b.dir+":"+os.Getenv("PATH"))
	t.Setenv(busAddressEnv, "unix:path=/the/bus")
	return b
}

func (b *busctl) hold() string  { return filepath.Join(b.dir, "hold") }
func (b *busctl) calls() string { return filepath.Join(b.dir, "calls") }

// count is how often a word was among the arguments.
func (b *busctl) count(word string) int {
	text, err := os.ReadFile(b.calls())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	return strings.Count(string(text), word)
}

// release lets one that hangs go on; it waits for one that does.
func (b *busctl) release() {
	b.t.Helper()
	f, err := os.OpenFile(b.hold(), os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	f.Close()
}

func ask(limit time.Duration) systemd { return systemd{children: program.Children{}, limit: limit} }

// A failed unit of the scope's name is in the way until it is dismissed; what else
// is in the way stays, and is told.
func TestStartScope(t *testing.T) {
	const left = `case "$*" in
*ResetFailedUnit*) RESET;;
*) if [ -e $0.reset ]; then exit 0; fi; echo 'Call failed: Unit x.scope was already loaded' >&2; exit 1;;
esac`
	for name, tc := range map[string]struct {
		reset              string
		fails              bool
		starts, dismissals int
	}{
		"left failed": {"touch $0.reset", false, 2, 1},
		"in use":      {"exit 0", true, 2, 1},
		"no unit":     {"exit 1", true, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBusctl(t, strings.Replace(left, "RESET", tc.reset, 1))
			err := ask(patience).startScope(t.Context(), "x.scope", "system.slice", 42, time.Minute)
			if (err != nil) != tc.fails {
				t.Errorf("%v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), "already loaded") || !strings.Contains(err.Error(), "unix:path=/the/bus")) {
				t.Errorf("%v", err)
			}
			if s, r := b.count("StartTransientUnit"), b.count("ResetFailedUnit s x.scope"); s != tc.starts || r != tc.dismissals {
				t.Errorf("%d starts and %d resets, want %d and %d", s, r, tc.starts, tc.dismissals)
			}
		})
	}
}

func TestStartScopeSilence(t *testing.T) {
	b := newBusctl(t, "hang")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := ask(patience).startScope(ctx, "x.scope", "system.slice", 42, time.Minute)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer on the system bus (unix:path=/the/bus)") {
		t.Errorf("%v", err)
	}
	if n := b.count("ResetFailedUnit"); n != 0 {
		t.Error("who is silent was asked for more")
	}
}

func TestAlive(t *testing.T) {
	for name, tc := range map[string]struct{ script, says string }{
		"answers":        {"exit 0", ""},
		"refuses":        {"echo 'Connection refused' >&2; exit 1", ""},
		"bus is silent":  {"hang", "the system bus (unix:path=/the/bus), by which systemd is asked, gives no answer within 500ms"},
		"only systemd's": {`case "$*" in *systemd1*) hang;; esac`, "systemd's manager gives no answer on the system bus (unix:path=/the/bus) within 500ms"},
	} {
		t.Run(name, func(t *testing.T) {
			newBusctl(t, tc.script)
			err := ask(500 * time.Millisecond).alive(t.Context())
			if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
	t.Run("nobody waits any more", func(t *testing.T) {
		newBusctl(t, "hang")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := ask(patience).alive(ctx); err != nil {
			t.Errorf("%v", err)
		}
	})
	t.Run("no busctl", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if err := ask(patience).alive(t.Context()); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// The signature says how many properties and of what types follow: busctl
// refuses a line where they differ.
func TestScopeArgs(t *testing.T) {
	args := scopeArgs("x.scope", "system.slice", 42, time.Minute)
	i := slices.Index(args, "ssa(sv)a(sa(sv))")
	if i < 0 {
		t.Fatalf("no signature in %q", args)
	}
	rest := args[i+3:] // behind the name and the mode
	if rest[0] != "5" || rest[len(rest)-1] != "0" {
		t.Fatalf("counts in %q", rest)
	}
	properties := 0
	for j := 1; j < len(rest)-1; properties++ {
		switch kind := rest[j+1]; kind {
		case "s", "t":
			j += 3
		case "au":
			j += 4
		default:
			t.Fatalf("property %q has type %q", rest[j], kind)
		}
	}
	if properties != 5 {
		t.Errorf("%d properties, the line says 5", properties)
	}
}
