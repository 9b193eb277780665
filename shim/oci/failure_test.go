// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// Every step that hangs ends at its deadline, says which it was, and its runtime
// is gone.
func TestDeadlines(t *testing.T) {
	steps := map[string]func(*Runtime) error{
		"create": func(r *Runtime) error {
			_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
			return err
		},
		"restore": func(r *Runtime) error {
			_, err := r.Restore(t.Context(), "c", RestoreOptions{ImagePath: t.TempDir(), PidFile: r.pidFile("init")})
			return err
		},
		"exec": func(r *Runtime) error {
			_, err := r.Exec(t.Context(), "c", []byte("{}"), ExecOptions{PidFile: r.pidFile("e")})
			return err
		},
		"start":  func(r *Runtime) error { return r.Start(t.Context(), "c") },
		"kill":   func(r *Runtime) error { return r.Kill(t.Context(), "c", 9, true) },
		"delete": func(r *Runtime) error { return r.Delete(t.Context(), "c", true) },
		"pause":  func(r *Runtime) error { return r.Pause(t.Context(), "c") },
		"resume": func(r *Runtime) error { return r.Resume(t.Context(), "c") },
		"update": func(r *Runtime) error { return r.Update(t.Context(), "c", []byte("{}")) },
		"checkpoint": func(r *Runtime) error {
			return r.Checkpoint(t.Context(), "c", CheckpointOptions{ImagePath: t.TempDir()})
		},
		"ps":       func(r *Runtime) error { _, err := r.Ps(t.Context(), "c"); return err },
		"state":    func(r *Runtime) error { _, err := r.State(t.Context(), "c"); return err },
		"features": func(r *Runtime) error { _, err := r.Features(t.Context()); return err },
	}
	for step, do := range steps {
		t.Run(step, func(t *testing.T) {
			f, r := newFake(t, "true")
			f.Set(step, ocitest.Failpoint{Hang: true})
			short(r)
			wantError(t, do(r), func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
				fmt.Sprintf("OCI runtime %s did not finish within 300ms", step))
			for _, c := range f.Calls() {
				if err := syscall.Kill(c.Pid, 0); !errors.Is(err, syscall.ESRCH) {
					t.Errorf("the runtime %d is still there: %v", c.Pid, err)
				}
			}
		})
	}
}

// The runtime's own children do not delay a call that ends well, and die with one
// that does not.
func TestGrandchild(t *testing.T) {
	f, r := newFake(t, "true")
	f.Set("delete", ocitest.Failpoint{Grandchild: true})
	begin := time.Now()
	must(t, r.Delete(t.Context(), "none", true))
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("a grandchild that holds stderr delayed delete for %v", took)
	}

	f.Set("create", ocitest.Failpoint{Grandchild: true, Hang: true, Stderr: "up\n"})
	out, stderr, err := os.Pipe()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := r.Create(ctx, "c", CreateOptions{PidFile: r.pidFile("init"), Stdio: Stdio{Stderr: stderr}})
		_ = stderr.Close()
		result <- err
	}()
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cancel()
	wantError(t, <-result, func(err error) bool { return errors.Is(err, context.Canceled) }, "OCI runtime create was given up by the caller")
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 { // the end of file is the grandchild's end
		t.Errorf("%q, %v", rest, err)
	}
}

func TestCallersDeadline(t *testing.T) {
	f, r := newFake(t, "true")
	f.Set("start", ocitest.Failpoint{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	wantError(t, r.Start(ctx, "c"), func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
		"OCI runtime start did not finish before the caller's deadline")
}

func TestBadRuntimes(t *testing.T) {
	own := fmt.Sprint(os.Getppid())
	for name, tc := range map[string]struct {
		fail ocitest.Failpoint
		says []string
	}{
		"log":           {ocitest.Failpoint{Exit: 1, Message: "the reason", Stderr: "noise\n"}, []string{"OCI runtime create failed: the reason"}},
		"last error":    {ocitest.Failpoint{Exit: 1, Log: "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\" last \"}\n{\"level\":\"info\",\"msg\":\"x\"}\n"}, []string{"failed: last"}},
		"rubbish log":   {ocitest.Failpoint{Exit: 1, Log: "\x00rub\nbish", Message: "the reason"}, []string{"gave no reason (exit status 1)"}},
		"huge log":      {ocitest.Failpoint{Exit: 1, Log: strings.Repeat("x", 200<<10) + "\n", Message: "the reason"}, []string{"failed: the reason"}},
		"status":        {ocitest.Failpoint{Exit: 42}, []string{"gave no reason (exit status 42)"}},
		"signal":        {ocitest.Failpoint{Signal: syscall.SIGKILL}, []string{"gave no reason (signal: killed)"}},
		"late signal":   {ocitest.Failpoint{Signal: syscall.SIGTERM, After: true}, []string{"signal: terminated"}},
		"no pid file":   {ocitest.Failpoint{NoPidFile: true}, []string{"ended well, but it wrote no pid file"}},
		"empty pid":     {ocitest.Failpoint{PidFile: "\n"}, []string{"contains no pid"}},
		"rubbish pid":   {ocitest.Failpoint{PidFile: "rubbish"}, []string{`contains no pid: "rubbish"`}},
		"huge pid file": {ocitest.Failpoint{PidFile: strings.Repeat("1", 1<<20)}, []string{"contains no pid"}},
		"pid 1":         {ocitest.Failpoint{PidFile: "1"}, []string{"contains no pid"}},
		"negative pid":  {ocitest.Failpoint{PidFile: "-5"}, []string{"contains no pid"}},
		"not ours":      {ocitest.Failpoint{PidFile: own}, []string{own + " of its pid file is not a child of this shim"}},
		"no process":    {ocitest.Failpoint{PidFile: "2147483646"}, []string{"2147483646 of its pid file does not exist"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newFake(t, "sleep", "1000")
			f.Set("create", tc.fail)
			// An old pid file and an old log say something else.
			must(t, os.WriteFile(r.pidFile("init"), []byte("77"), 0o600))
			must(t, os.WriteFile(filepath.Join(r.cfg.Bundle, "log.json"), []byte(`{"level":"error","msg":"old"}`), 0o600))
			_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
			wantError(t, err, nil, append(tc.says, "OCI runtime create failed: ")...)
			if len(err.Error()) > maxMessage+200 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			must(t, r.Delete(t.Context(), "c", true))
		})
	}
}

func TestStderr(t *testing.T) {
	f, r := newFake(t, "true")
	f.Set("start", ocitest.Failpoint{Exit: 1, Stderr: "  only here\n"})
	wantError(t, r.Start(t.Context(), "c"), nil, "OCI runtime start failed: only here")
	f.Set("start", ocitest.Failpoint{Signal: syscall.SIGKILL, Stderr: "panic"})
	wantError(t, r.Start(t.Context(), "c"), nil, "OCI runtime start failed: panic (signal: killed)")
	f.Set("start", ocitest.Failpoint{Exit: 1, Stderr: strings.Repeat("x", 1<<20)})
	err := r.Start(t.Context(), "c")
	wantError(t, err, nil, "xxx…")
	if len(err.Error()) > maxMessage+200 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}

	// Without a place for a log, stderr is what there is.
	must(t, os.RemoveAll(r.cfg.Bundle))
	f.Clear("start")
	wantError(t, r.Start(t.Context(), "c"), errdefs.IsNotFound, "container does not exist")
}

// Calls at the same time report their own errors.
func TestConcurrent(t *testing.T) {
	f, r := newFake(t, "true")
	steps := map[string]func(id string) error{
		"start": func(id string) error { return r.Start(t.Context(), id) },
		"kill":  func(id string) error { return r.Kill(t.Context(), id, 9, false) },
		"pause": func(id string) error { return r.Pause(t.Context(), id) },
	}
	for step := range steps {
		f.Set(step, ocitest.Failpoint{Exit: 1, Message: "of " + step})
	}
	var wg sync.WaitGroup
	for range 5 {
		for step, do := range steps {
			wg.Go(func() {
				if err := do("c"); err == nil || err.Error() != "OCI runtime "+step+" failed: of "+step {
					t.Errorf("%s: %v", step, err)
				}
			})
		}
	}
	wg.Wait()
}

// What the runtime inherits is what it needs.
func TestEnvironment(t *testing.T) {
	for _, name := range strippedEnv {
		t.Setenv(name, "1")
	}
	t.Setenv("KEPT", "yes")
	leak, err := os.Open("/etc/passwd")
	must(t, err)
	defer leak.Close()
	// As a descriptor that the shim inherited, or that a library opened carelessly.
	fd, err := syscall.Dup(int(leak.Fd()))
	must(t, err)
	defer syscall.Close(fd)

	f, r := newFake(t, "true")
	must(t, r.Delete(t.Context(), "none", true))
	c := f.Calls()[0]
	if c.Dir != "/" {
		t.Errorf("it runs in %s", c.Dir)
	}
	env := strings.Join(c.Env, "\n")
	for _, name := range strippedEnv {
		if strings.Contains(env, name+"=") {
			t.Errorf("%s is passed on", name)
		}
	}
	if !strings.Contains(env, "KEPT=yes") {
		t.Error("the environment is not passed on")
	}
	for fd, target := range c.FDs {
		// The child's own: what it opened to list its descriptors, and Go's poller.
		if len(fd) > 1 || fd > "2" {
			if !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "/sys/") {
				t.Errorf("descriptor %s is passed on: %s", fd, target)
			}
		}
	}
}

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		op, message string
		class       error
	}{
		{"kill", "container does not exist", errdefs.ErrNotFound},
		{"kill", "os: process already finished", errdefs.ErrNotFound},
		{"kill", "container not running", errdefs.ErrNotFound},
		{"state", "error opening file `/run/crun/x/status`: No such file or directory", errdefs.ErrNotFound},
		{"delete", "cannot open directory '/run/crun/nope': No such file or directory", errdefs.ErrNotFound},
		{"exec", "exec failed: container does not exist", errdefs.ErrNotFound},
		{"exec", "the container `c` is not running.", errdefs.ErrFailedPrecondition},
		{"exec", "exec failed: unable to start container process: exec: \"x\": stat x: no such file or directory", nil},
		{"create", "mount src=/container/a: does not exist", nil},
		{"create", "container with id \"x\" already exists", errdefs.ErrAlreadyExists},
		{"restore", "unknown command restore", errdefs.ErrNotImplemented},
		{"features", "unknown command features", errdefs.ErrNotImplemented},
	} {
		if got := classify(tc.op, tc.message); got != tc.class {
			t.Errorf("%s %q: %v, want %v", tc.op, tc.message, got, tc.class)
		}
	}
}
