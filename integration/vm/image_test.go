// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// TestRootImage: made once for each content of the script; nothing is kept of a
// script that fails, or of an older one.
func TestRootImage(t *testing.T) {
	repository, cache := t.TempDir(), t.TempDir()
	dir := filepath.Join(repository, "integration", "vm")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "rootfs.sh"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	roots := func() int {
		found, err := filepath.Glob(filepath.Join(cache, "root-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	script("echo made >>" + cache + "/log; echo one >$1/root.img")
	for range 2 {
		i, err := rootImage(t.Context(), repository, cache)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(i.root()); err != nil || string(text) != "one\n" {
			t.Errorf("the root is %q, %v", text, err)
		}
	}
	if log, err := os.ReadFile(filepath.Join(cache, "log")); err != nil || string(log) != "made\n" {
		t.Errorf("made twice: %q, %v", log, err)
	}
	// Two at once make one.
	script("sleep 0.5; echo made >>" + cache + "/log; echo both >$1/root.img")
	var both errgroup.Group
	for range 2 {
		both.Go(func() error {
			_, err := rootImage(t.Context(), repository, cache)
			return err
		})
	}
	if err := both.Wait(); err != nil {
		t.Error(err)
	}
	if log, err := os.ReadFile(filepath.Join(cache, "log")); err != nil || string(log) != "made\nmade\n" {
		t.Errorf("made by each of two: %q, %v", log, err)
	}
	script("echo two >$1/root.img")
	if _, err := rootImage(t.Context(), repository, cache); err != nil || roots() != 1 {
		t.Errorf("%v; %d roots are kept", err, roots())
	}
	script("echo half >$1/root.img; echo no space >&2; exit 1")
	for range 2 {
		if _, err := rootImage(t.Context(), repository, cache); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("a script that fails: %v", err)
		}
	}
}

// TestRootImageInterrupted: what the script has started ends with it, and what it
// cleans up is cleaned up.
func TestRootImageInterrupted(t *testing.T) {
	repository, cache := t.TempDir(), t.TempDir()
	dir := filepath.Join(repository, "integration", "vm")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(cache, "held")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// The child alone holds the FIFO's other end.
	text := "#!/bin/bash\ntrap 'echo clean >" + cache + "/clean' EXIT\n(exec 1>" + fifo + "; echo up; exec sleep 1000)\n"
	if err := os.WriteFile(filepath.Join(dir, "rootfs.sh"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	made := make(chan error, 1)
	go func() {
		_, err := rootImage(ctx, repository, cache)
		made <- err
	}()
	held, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := held.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-made:
		if err == nil {
			t.Error("an interrupted script made a root")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	if err := held.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := held.Read(make([]byte, 8)); !errors.Is(err, io.EOF) {
		t.Errorf("the child lives: %d, %v", n, err)
	}
	if _, err := os.Stat(filepath.Join(cache, "clean")); err != nil {
		t.Error(err)
	}
}
