// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// script makes an OCI runtime out of lines of shell. $1 is a directory for it.
func script(t *testing.T, body string) (*Runtime, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "runtime")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\ncd "+dir+"\n"+body+"\n"), 0o700))
	return newRuntime(t, Config{Binary: path, Bundle: ocitest.Bundle(t, "true")}), dir
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	must(t, err)
	return pid
}

// A runtime that knows SIGTERM can clean up.
func TestTermComesFirst(t *testing.T) {
	r, dir := script(t, `trap 'echo x >cleaned; exit 1' TERM; sleep 1000 & wait`)
	r.cfg.Deadlines.Start = 300 * time.Millisecond
	r.cfg.Deadlines.Terminate = time.Minute
	wantError(t, r.Start(t.Context(), "c"), func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
		"OCI runtime start did not finish within 300ms and was ended")
	if _, err := os.Stat(filepath.Join(dir, "cleaned")); err != nil {
		t.Error("it was not asked to end")
	}
}

// One that does not is killed, and what it has started, too.
func TestKillFollows(t *testing.T) {
	r, dir := script(t, `trap '' TERM; sh -c 'trap "" TERM; echo $$ >pid; exec sleep 1000' & wait; sleep 1000`)
	r.cfg.Deadlines.Start = 300 * time.Millisecond
	r.cfg.Deadlines.Terminate = 200 * time.Millisecond
	wantError(t, r.Start(t.Context(), "c"), nil, "did not finish within 300ms")
	if ws := reap(t, pidIn(t, filepath.Join(dir, "pid"))); ws.Signal() != unix.SIGKILL {
		t.Errorf("its child ended with %v", ws)
	}
}

// A runtime that fails leaves nothing: neither in its process group nor in a
// session of its own. One that succeeds may leave what it likes.
func TestFailureLeavesNothing(t *testing.T) {
	for _, how := range []string{"sleep 1000", "setsid sleep 1000"} {
		for _, code := range []int{1, 0} {
			t.Run(fmt.Sprintf("%s, exit %d", how, code), func(t *testing.T) {
				r, dir := script(t, fmt.Sprintf("%s & echo $! >pid; exit %d", how, code))
				err := r.Start(t.Context(), "c")
				pid := pidIn(t, filepath.Join(dir, "pid"))
				if code == 0 {
					must(t, err)
					must(t, unix.Kill(pid, 0))
					must(t, unix.Kill(pid, unix.SIGTERM))
					if ws := reap(t, pid); ws.Signal() != unix.SIGTERM {
						t.Errorf("it was ended: %v", ws)
					}
					return
				}
				wantError(t, err, nil, "gave no reason (exit status 1)")
				if ws := reap(t, pid); ws.Signal() != unix.SIGKILL {
					t.Errorf("it ended with %v", ws)
				}
			})
		}
	}
}

// A file system that does not answer holds up a call to its deadline and no longer.
func TestHungFileSystem(t *testing.T) {
	hung := ocitest.HungDir(t)
	r := short(newRuntime(t, Config{Binary: filepath.Join(hung, "runtime"), Bundle: ocitest.Bundle(t, "true")}))
	for step, do := range map[string]func() error{
		"start": func() error { return r.Start(t.Context(), "c") },
		"create": func() error {
			_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
			return err
		},
	} {
		wantError(t, do(), func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
			"OCI runtime "+step+" did not finish within 300ms")
	}
}
