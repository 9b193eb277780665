// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	runc "github.com/containerd/go-runc"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

func TestLifecycle(t *testing.T) {
	_, r := newFake(t, "sh", "-c", "read x; echo got $x; exit 7")
	ctx := t.Context()
	in, stdin, err := os.Pipe()
	must(t, err)
	out, stdout, err := os.Pipe()
	must(t, err)
	pid := create(t, r, "c1", Stdio{Stdin: in, Stdout: stdout})
	must(t, in.Close())
	must(t, stdout.Close())

	s, err := r.State(ctx, "c1")
	if err != nil || s.Status != "created" || s.Pid != pid || s.Bundle != r.cfg.Bundle {
		t.Fatalf("state %+v, %v", s, err)
	}
	_, err = r.Create(ctx, "c1", CreateOptions{PidFile: r.pidFile("other")})
	wantError(t, err, errdefs.IsAlreadyExists, "OCI runtime create failed: ", "already exists")
	must(t, r.Start(ctx, "c1"))
	wantError(t, r.Start(ctx, "c1"), errdefs.IsFailedPrecondition, "OCI runtime start failed")

	must(t, r.Pause(ctx, "c1"))
	if s, err := r.State(ctx, "c1"); err != nil || s.Status != "paused" {
		t.Errorf("state %+v, %v", s, err)
	}
	must(t, r.Resume(ctx, "c1"))
	wantError(t, r.Resume(ctx, "c1"), errdefs.IsFailedPrecondition)
	must(t, r.Update(ctx, "c1", []byte(`{"memory":{"limit":1}}`)))

	exec, err := r.Exec(ctx, "c1", []byte(`{"args":["sleep","1000"],"cwd":"/","env":["PATH=/bin:/usr/bin"]}`), ExecOptions{PidFile: r.pidFile("e1")})
	must(t, err)
	pids, err := r.Ps(ctx, "c1")
	if err != nil || !slices.Contains(pids, pid) || !slices.Contains(pids, exec) {
		t.Errorf("ps %v, %v; want %d and %d", pids, err, pid, exec)
	}
	wantError(t, r.Delete(ctx, "c1", false), errdefs.IsFailedPrecondition, "not stopped")

	_, err = stdin.WriteString("hello\n")
	must(t, err)
	if text, err := io.ReadAll(out); err != nil || string(text) != "got hello\n" {
		t.Errorf("output %q, %v", text, err)
	}
	must(t, out.Close())
	must(t, stdin.Close())
	if ws := reap(t, pid); ws.ExitStatus() != 7 {
		t.Errorf("init: %v", ws)
	}
	wantError(t, r.Kill(ctx, "c1", 9, false), errdefs.IsNotFound)
	_, err = r.Exec(ctx, "c1", []byte(`{"args":["true"]}`), ExecOptions{PidFile: r.pidFile("e2")})
	wantError(t, err, errdefs.IsFailedPrecondition, "OCI runtime exec failed: cannot exec in a stopped container")
	must(t, r.Kill(ctx, "c1", 15, true))
	if ws := reap(t, exec); ws.Signal() != syscall.SIGTERM {
		t.Errorf("exec: %v", ws)
	}
	must(t, r.Delete(ctx, "c1", false))
	wantError(t, r.Delete(ctx, "c1", false), errdefs.IsNotFound, "OCI runtime delete failed: container does not exist")
	must(t, r.Delete(ctx, "c1", true))
	wantError(t, r.Kill(ctx, "c1", 9, false), errdefs.IsNotFound)

	// Only what a bundle has, and the last log, is left.
	var names []string
	entries, err := os.ReadDir(r.cfg.Bundle)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"config.json", "e1.pid", "init.pid", "log.json"}; !slices.Equal(names, want) {
		t.Errorf("left in the bundle: %v, want %v", names, want)
	}
}

func TestTerminal(t *testing.T) {
	_, r := newFake(t)
	ocitest.WriteConfig(t, r.cfg.Bundle, map[string]any{"ociVersion": "1.0.2", "process": map[string]any{
		"terminal": true, "args": []string{"sh", "-c", "test -t 0 && echo terminal"}, "env": []string{"PATH=" + os.Getenv("PATH")},
	}})
	socket, err := runc.NewTempConsoleSocket()
	must(t, err)
	defer socket.Close()
	pid, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init"), ConsoleSocket: socket.Path()})
	must(t, err)
	master, err := socket.ReceiveMaster()
	must(t, err)
	defer master.Close()
	must(t, r.Start(t.Context(), "c"))
	text, err := io.ReadAll(master)
	if !errors.Is(err, syscall.EIO) || string(text) != "terminal\r\n" { // EIO: the other end is closed
		t.Errorf("%q, %v", text, err)
	}
	if ws := reap(t, pid); ws.ExitStatus() != 0 {
		t.Errorf("init: %v", ws)
	}
}

func TestCheckpointRestore(t *testing.T) {
	f, r := newFake(t, "sleep", "1000")
	ctx := t.Context()
	image := filepath.Join(t.TempDir(), "image")
	pid := create(t, r, "c", Stdio{})
	must(t, r.Start(ctx, "c"))
	must(t, r.Checkpoint(ctx, "c", CheckpointOptions{
		ImagePath: image, WorkPath: "/work", ParentPath: "../parent", LeaveRunning: true, TCPEstablished: true, ExternalUnixSockets: true,
		ShellJob: true, FileLocks: true, EmptyNamespaces: []string{"network", "ipc"}, CgroupsMode: "soft",
	}))
	calls := f.Calls()
	got := strings.Join(calls[len(calls)-1].Args, " ")
	want := "checkpoint --image-path " + image + " --work-path /work --parent-path ../parent --leave-running --tcp-established" +
		" --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode soft --empty-ns network --empty-ns ipc c"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	must(t, r.Checkpoint(ctx, "c", CheckpointOptions{ImagePath: image}))
	reap(t, pid)

	pid, err := r.Restore(ctx, "c", RestoreOptions{ImagePath: image, PidFile: r.pidFile("init"), NoPivot: true, TCPEstablished: true})
	must(t, err)
	if s, err := r.State(ctx, "c"); err != nil || s.Status != "running" || s.Pid != pid {
		t.Errorf("state %+v, %v", s, err)
	}
	must(t, r.Delete(ctx, "c", true))
	reap(t, pid)
	wantError(t, r.Checkpoint(ctx, "c", CheckpointOptions{}), errdefs.IsInvalidArgument)
	_, err = r.Restore(ctx, "c", RestoreOptions{})
	wantError(t, err, errdefs.IsInvalidArgument)
}

func TestCriu(t *testing.T) {
	f, r := newFake(t, "sleep", "1000")
	opts := CheckpointOptions{ImagePath: t.TempDir(), WorkPath: t.TempDir()}
	must(t, os.WriteFile(filepath.Join(opts.WorkPath, "dump.log"), []byte("why"), 0o600))
	f.Set("checkpoint", ocitest.Failpoint{Exit: 1, Message: "criu failed: type NOTIFY errno 0\nlog file: dump.log"})

	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	wantError(t, r.Checkpoint(t.Context(), "c", opts), errdefs.IsFailedPrecondition,
		"OCI runtime checkpoint failed: criu is not installed", "criu failed: type NOTIFY")

	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, "criu"), []byte("#!/bin/sh\n"), 0o755))
	t.Setenv("PATH", bin+":"+path)
	kept := filepath.Join(r.cfg.Bundle, "criu-dump.log")
	wantError(t, r.Checkpoint(t.Context(), "c", opts), nil, "OCI runtime checkpoint failed: criu failed: type NOTIFY errno 0 path= "+kept)
	if data, err := os.ReadFile(kept); err != nil || string(data) != "why" {
		t.Errorf("criu's log: %q, %v", data, err)
	}
	f.Set("checkpoint", ocitest.Failpoint{Exit: 1, Message: "unknown command checkpoint"})
	wantError(t, r.Checkpoint(t.Context(), "c", opts), errdefs.IsNotImplemented)
}

func TestFeaturesVersion(t *testing.T) {
	f, r := newFake(t, "true")
	if data, err := r.Features(t.Context()); err != nil || !strings.Contains(string(data), `"ociVersionMax":"1.3.0"`) {
		t.Errorf("%s, %v", data, err)
	}
	if v, err := r.Version(t.Context()); err != nil || v != (Version{Name: "fake", Release: "1.2.3", Commit: "none", Spec: "1.3.0"}) {
		t.Errorf("%+v, %v", v, err)
	}
	for _, step := range []string{"features", "ps", "state", "--version"} {
		f.Set(step, ocitest.Failpoint{Stdout: "rub\xffbish"})
	}
	f.Set("create", ocitest.Failpoint{})
	create(t, r, "c", Stdio{})
	_, err := r.Features(t.Context())
	wantError(t, err, nil, "OCI runtime features failed", "rub")
	_, err = r.Ps(t.Context(), "c")
	wantError(t, err, nil, "OCI runtime ps failed", "rub")
	_, err = r.State(t.Context(), "c")
	wantError(t, err, nil, "OCI runtime state failed", "rub")
	_, err = r.Version(t.Context())
	wantError(t, err, nil, "no line with a version")
	f.Set("features", ocitest.Failpoint{Stdout: `{"x":"` + strings.Repeat("y", maxOutput) + `"}`})
	_, err = r.Features(t.Context())
	wantError(t, err, nil, "OCI runtime features failed", "more than")
	f.Set("features", ocitest.Failpoint{Exit: 3, Stderr: "No help topic for 'features'\n"})
	_, err = r.Features(t.Context())
	wantError(t, err, errdefs.IsNotImplemented, "No help topic")
	must(t, r.Delete(background(t), "c", true))
}

func TestNew(t *testing.T) {
	for _, cfg := range []Config{{Binary: "./runc"}, {Bundle: "bundle"}} {
		_, err := New(cfg)
		wantError(t, err, errdefs.IsInvalidArgument)
	}
	r := newRuntime(t, Config{Binary: "no-runc", Bundle: ocitest.Bundle(t, "true")})
	_, err := r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
	wantError(t, err, nil, `OCI runtime create failed: exec: "no-runc": executable file not found in $PATH`)
	r = newRuntime(t, Config{Binary: "/none/runc", Bundle: ocitest.Bundle(t, "true")})
	wantError(t, r.Start(t.Context(), "c"), nil, "OCI runtime start failed: ", "/none/runc: no such file or directory")
	if r = newRuntime(t, Config{}); r.Name() != "runc" || r.cfg.Deadlines.Create == 0 {
		t.Errorf("defaults: %+v", r.cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, r.Start(ctx, "c"), func(err error) bool { return errors.Is(err, context.Canceled) }, "OCI runtime start was given up by the caller")
}
