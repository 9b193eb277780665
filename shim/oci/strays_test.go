// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// A runtime that fails leaves no process, wherever that is on its way when the
// runtime ends: about to be executed, or below one that ends too.
func TestStrays(t *testing.T) {
	for name, script := range map[string]string{
		"executed at the end": "setsid sleep 1000 & exit 1",
		"by one that ends":    "(setsid sleep 1000 & exec sleep 1000) & exit 1",
		"without a mark":      "setsid env -i sleep 0.01 & exit 1", // nothing tells whose it is
		"many":                "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'sleep 1000 & sleep 1000' & done; exit 1",
	} {
		t.Run(name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "leaving")
			must(t, os.WriteFile(binary, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
			r := newRuntime(t, Config{Binary: binary, Bundle: ocitest.Bundle(t, "true")})
			for range 100 {
				wantError(t, r.Start(t.Context(), "c"), nil, "OCI runtime start failed")
				reapAll(t)
			}
		})
	}
}

// reapAll waits for the end of every child; nobody else kills them.
func reapAll(t *testing.T) {
	t.Helper()
	var late atomic.Bool
	timer := time.AfterFunc(20*time.Second, func() {
		late.Store(true)
		for _, pid := range children() {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone
		}
	})
	defer timer.Stop()
	for {
		var ws unix.WaitStatus
		switch _, err := unix.Wait4(-1, &ws, 0, nil); err {
		case nil, unix.EINTR:
		case unix.ECHILD:
			if late.Load() {
				t.Fatal("a process was left")
			}
			return
		default:
			t.Fatal(err)
		}
	}
}

func TestCarries(t *testing.T) {
	const mark = markEnv + "=test"
	for name, tc := range map[string]struct {
		env  []string
		want bool
	}{
		"marked":     {[]string{"A=b", mark, "C=d"}, true},
		"another's":  {[]string{markEnv + "=tes", markEnv + "=test2"}, false},
		"no environ": {[]string{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sleep", "1000")
			cmd.Env = tc.env
			must(t, cmd.Start())
			p, err := readProcess(cmd.Process.Pid)
			must(t, err)
			if p.carries(mark) != tc.want {
				t.Errorf("marked: %t", !tc.want)
			}
			if p.end(mark) != tc.want {
				t.Errorf("ended: %t", !tc.want)
			}
			must(t, cmd.Process.Kill())
			awaitDeath(cmd.Process.Pid)
			if p.carries(mark) || !p.end(mark) {
				t.Error("a dead process is not taken for one")
			}
			_ = cmd.Wait() // it was killed
		})
	}
}

// A process that executes one program after the other has the mark all the time.
func TestCarriesWhileExecuting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "again")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\nexec \"$0\"\n"), 0o755))
	const mark = markEnv + "=test"
	cmd := exec.Command(path)
	cmd.Env = []string{"LONG=" + strings.Repeat("x", 8000), mark} // more than is read at once
	must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	for n := range 2000 {
		p, err := readProcess(cmd.Process.Pid)
		must(t, err)
		if !p.carries(mark) {
			t.Fatalf("it has no mark in round %d", n)
		}
	}
}
