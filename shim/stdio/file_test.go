// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOneFileForBothStreams(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a b", "c", "log")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	i := mustOpen(t, Streams{Stdout: "file://" + path, Stderr: path}, testOptions(t))
	if i.fds.get(stderrSink) != nil {
		t.Error("two descriptors for one file")
	}
	waitFor(t, start(t, i, countTo(5000, "o")+" & "+countTo(5000, "e")+" >&2; wait"))
	mustDrain(t, i)
	got := readLog(t, path)
	if len(got) != len("old\n"+lines("o", 5000)+lines("e", 5000)) || !strings.HasPrefix(got, "old\n") {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTwoFiles(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	out, errs := filepath.Join(dir, "new", "out"), filepath.Join(dir, "err")
	i := mustOpen(t, Streams{Stdout: "file://" + out, Stderr: "file://" + errs}, testOptions(t))
	waitFor(t, start(t, i, "head -c 5000000 /dev/zero; echo e >&2"))
	mustDrain(t, i)
	if len(readLog(t, out)) != 5000000 || readLog(t, errs) != "e\n" {
		t.Error("not what was written")
	}
}

func TestStderrAlone(t *testing.T) {
	checkLeaks(t)
	errs := mkfifo(t, "err")
	i := mustOpen(t, Streams{Stderr: errs}, testOptions(t))
	if _, out, _ := i.Child(); out != nil {
		t.Error("stdout is there")
	}
	r := readAll(errs)
	waitFor(t, start(t, i, "echo o; echo e >&2"))
	if got := string(r.wait(t)); got != "e\n" {
		t.Errorf("%q", got)
	}
}

func TestAFullDiskDoesNotStopTheProcess(t *testing.T) {
	checkLeaks(t)
	i := mustOpen(t, Streams{Stdout: "/dev/full"}, testOptions(t))
	waitFor(t, start(t, i, "head -c 1000000 /dev/zero"))
	mustDrain(t, i)
	if m := &i.outputs[0].m; m.dropped != 1000000 {
		t.Errorf("%d bytes dropped", m.dropped)
	}
}

func TestABrokenPipeDropsTheRest(t *testing.T) {
	checkLeaks(t)
	sr, sw, err := newPipe("source", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	dr, dw, err := newPipe("destination", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	src, err := pollable(sr)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := pollable(dw)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	var m meter
	var failures []error
	c, err := newCopier(context.Background(), new(crew), src, dst, &m, func(err error) { failures = append(failures, err) })
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.run() }()
	if _, err := sw.Write(make([]byte, 100000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the destination is full", func() bool { return queuedIn(dr) > 0 && queuedIn(src) > 0 })
	dr.Close()
	if _, err := sw.Write(make([]byte, 1000000)); err != nil {
		t.Fatal(err)
	}
	sw.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(failures) != 1 || !errors.Is(failures[0], unix.EPIPE) {
		t.Errorf("failures: %v", failures)
	}
	if m.taken != 1100000 || m.delivered != m.taken || m.dropped < 1000000 {
		t.Errorf("taken %d, delivered %d, dropped %d", m.taken, m.delivered, m.dropped)
	}
}
