// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"

	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/config"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	got = strings.ReplaceAll(got, config.Version, "VERSION")
	if *rewrite {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); go test -rewrite, if it is meant:\n%s", path, diff)
	}
}

// troubled has findings of each status.
func troubled(t *testing.T) *Report {
	f := newFixture(t, both(file("/proc/self/status", "x\nCapBnd:\t000001fffeffffff\n", "/var/lib/quoind/", "0755",
		"/usr/bin/runc", "#!/bin/sh\necho runc version 1.1.5+ds1\n"), cgroupfsPods)).serve(t)
	return examine(t.Context(), f.host)
}

func TestGolden(t *testing.T) {
	for name, report := range map[string]*Report{
		"healthy":  examine(t.Context(), newFixture(t, nil).serve(t).host),
		"troubled": troubled(t),
	} {
		var text, object bytes.Buffer
		must(t, report.writeText(screen{w: &text}))
		must(t, report.writeJSON(&object))
		golden(t, name+".txt", text.String())
		golden(t, name+".json", object.String())
	}
}

// On a healthy node there is nothing to say.
func TestHealthy(t *testing.T) {
	r := examine(t.Context(), newFixture(t, nil).serve(t).host)
	if r.Verdict != OK {
		t.Errorf("%+v", r)
	}
	if v := troubled(t).Verdict; v != Fail {
		t.Error(v)
	}
	if v := newReport([]Finding{good("x"), warning("y", "z")}).Verdict; v != Warn {
		t.Error(v)
	}
}

// This machine, whatever it is: findings are well formed, of every check, and
// there in time.
func TestThisMachine(t *testing.T) {
	h, err := realHost("")
	must(t, err)
	begun := time.Now()
	r := examine(t.Context(), h)
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("it took %s", d)
	}
	sane(t, "", r)
	if got := r.find(t, "host.kernel"); got.Status != OK {
		t.Errorf("%+v", got)
	}
	if got := r.find(t, "storage.d_type"); got.Status != OK {
		t.Errorf("%+v", got)
	}
	comm, err := os.ReadFile("/proc/1/comm")
	must(t, err)
	if got := r.find(t, "host.init"); !strings.Contains(got.Message, strings.TrimSpace(string(comm))) {
		t.Errorf("%+v", got)
	}
}

// The system calls that the table tests replace.
func TestRealKernel(t *testing.T) {
	k := realKernel()
	if u, err := k.statfs(t.TempDir()); err != nil || u.size == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	dir := t.TempDir()
	if _, known, err := k.entryTypes(dir); known || err != nil {
		t.Errorf("an empty directory: %v, %v", known, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if typed, known, err := k.entryTypes(dir); !typed || !known || err != nil {
		t.Errorf("%v, %v, %v", typed, known, err)
	}
	if _, _, err := k.entryTypes(filepath.Join(dir, "none")); err == nil {
		t.Error("no error for a directory that is not there")
	}
	if err := k.idmap(filepath.Join(dir, "none")); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

// A check that hangs is a finding, in time; the others are not lost.
func TestHangingCheck(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	all := []check{
		{"g", "deaf", "deaf", one(func(context.Context, *world) Finding { <-release; return good("late") })},
		{"g", "quick", "quick", one(func(context.Context, *world) Finding { return good("here") })},
		{"g", "deaf2", "deaf too", one(func(context.Context, *world) Finding { <-release; return good("late") })},
		{"g", "heeds", "heeds", one(func(ctx context.Context, _ *world) Finding { <-ctx.Done(); return good("told") })},
	}
	got := runAll(t.Context(), nil, all, deadlines{check: 50 * time.Millisecond, grace: time.Second})
	var ids []string
	for _, f := range got {
		ids = append(ids, f.ID+" "+string(f.Status))
	}
	if diff := cmp.Diff([]string{"deaf warn", "quick ok", "deaf2 warn", "heeds ok"}, ids); diff != "" {
		t.Error(diff)
	}
}

// A program that hangs costs the check's deadline, and is ended.
func TestHangingProgram(t *testing.T) {
	t.Parallel()
	f := newFixture(t, file("/usr/local/bin/containerd-shim-quoin-v1", "#!/bin/sh\nsleep 1000 & sleep 1000\n"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := f.output(ctx, "/usr/local/bin/containerd-shim-quoin-v1", "-v")
	if err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Error(err)
	}
}

func TestScreen(t *testing.T) {
	ptmx, tty := openPTY(t)
	must(t, unix.IoctlSetWinsize(int(ptmx.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 60, Row: 20}))
	for name, tc := range map[string]struct {
		w      io.Writer
		env    map[string]string
		colour bool
		width  int
	}{
		"terminal": {tty, nil, true, 60},
		"NO_COLOR": {tty, map[string]string{"NO_COLOR": "1"}, false, 60},
		"dumb":     {tty, map[string]string{"TERM": "dumb"}, false, 60},
		"buffer":   {&bytes.Buffer{}, nil, false, 0},
		"file":     {devNull(t), nil, false, 0},
	} {
		s := screenOf(tc.w, func(k string) string { return tc.env[k] })
		if s.colour != tc.colour || s.width != tc.width {
			t.Errorf("%s: %+v", name, s)
		}
	}
	var out bytes.Buffer
	r := newReport([]Finding{{Group: "g", Title: "title", Status: Warn, Message: strings.Repeat("word ", 30), Fix: strings.Repeat("do ", 30)}})
	must(t, r.writeText(screen{w: &out, colour: true, width: 60}))
	for line := range strings.Lines(out.String()) {
		if n := len(strings.TrimSpace(line)); n > 60+len("\x1b[33m\x1b[0m") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if !strings.Contains(out.String(), "\x1b[33mwarn\x1b[0m") || !strings.Contains(out.String(), "\x1b[33m1 warning\x1b[0m") {
		t.Errorf("no colour: %q", out.String())
	}
	r = newReport([]Finding{good("x")})
	out.Reset()
	must(t, r.writeText(screen{w: &out}))
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("colour: %q", out.String())
	}
}

func openPTY(t *testing.T) (ptmx, tty *os.File) {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { ptmx.Close() })
	must(t, unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	must(t, err)
	tty, err = os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { tty.Close() })
	return ptmx, tty
}

func devNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}
