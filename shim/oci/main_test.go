// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// The test process is a subreaper, as the shim is: what a runtime leaves behind
// becomes its child.
func TestMain(m *testing.M) {
	ocitest.RunIfFake()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "become a subreaper:", err)
		os.Exit(1)
	}
	if binary := os.Getenv(shimEnv); binary != "" {
		beShim(binary)
	}
	os.Exit(m.Run())
}

// newFake makes a fake runtime and a Runtime that runs it on a bundle.
func newFake(t *testing.T, args ...string) (*ocitest.Fake, *Runtime) {
	t.Helper()
	f := ocitest.New(t)
	return f, newRuntime(t, Config{Binary: f.Binary(), Root: f.Root(), Bundle: ocitest.Bundle(t, args...)})
}

func newRuntime(t testing.TB, cfg Config) *Runtime {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// short are deadlines for steps that hang.
func short(r *Runtime) *Runtime {
	const d = 300 * time.Millisecond
	r.cfg.Deadlines = config.Deadlines{Create: d, Start: d, Exec: d, Control: d, Delete: d, Checkpoint: d}
	return r
}

func (r *Runtime) pidFile(name string) string { return filepath.Join(r.cfg.Bundle, name+".pid") }

func create(t testing.TB, r *Runtime, id string, stdio Stdio) int {
	t.Helper()
	pid, err := r.Create(t.Context(), id, CreateOptions{PidFile: r.pidFile("init"), Stdio: stdio})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// reap waits for a process that a runtime left to us. It also reaps whatever else
// was left meanwhile, as the shim's janitor does: a dead process in a container's
// PID namespace whose parent is outside keeps the namespace's init from ending (a
// crun whose exec fails leaves one). No runtime may be running.
func reap(t testing.TB, pid int) unix.WaitStatus {
	t.Helper()
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("wait for %d: %v", pid, err)
		}
		// si_pid is the first field of the union, which is aligned as a pointer.
		dead := int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), 16)))
		var ws unix.WaitStatus
		if _, err := unix.Wait4(dead, &ws, 0, nil); err != nil {
			t.Fatalf("reap %d: %v", dead, err)
		}
		if dead == pid {
			return ws
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks the text and the class of an error.
func wantError(t testing.TB, err error, is func(error) bool, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if is != nil && !is(err) {
		t.Errorf("wrong class: %v", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func background(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }
