// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
)

// bed is a real runtime and what it needs to run natively.
type bed struct {
	name, binary string
}

// beds finds the runtimes that are installed. crun of before 1.9 refuses the
// hybrid hierarchy of cgroups, so there it is run in a mount namespace of its own
// without the cgroup2 mount.
func beds(t testing.TB) []bed {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("real containers need root")
	}
	var found []bed
	for _, name := range []string{"runc", "crun"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("%s is not installed (apt install %s)", name, name)
			continue
		}
		if _, err := os.Stat("/sys/fs/cgroup/unified"); name == "crun" && err == nil {
			script := "#!/bin/sh\nexec unshare -m sh -c 'umount /sys/fs/cgroup/unified && exec " + path + " \"$@\"' crun \"$@\"\n"
			path = filepath.Join(t.TempDir(), "crun")
			must(t, os.WriteFile(path, []byte(script), 0o755))
		}
		found = append(found, bed{name, path})
	}
	if len(found) == 0 {
		t.Fatal("neither runc nor crun is installed: integration/setup.sh installs both")
	}
	return found
}

// realBundle is a bundle with busybox, in a cgroup of its own.
func realBundle(t testing.TB, version string, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bündle with space")
	bin := filepath.Join(dir, "rootfs", "bin")
	must(t, os.MkdirAll(bin, 0o755))
	for _, d := range []string{"proc", "dev", "sys", "tmp"} {
		must(t, os.Mkdir(filepath.Join(dir, "rootfs", d), 0o755))
	}
	busybox, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(bin, "busybox"), busybox, 0o755))
	must(t, os.Symlink("busybox", filepath.Join(bin, "sh")))
	must(t, os.Symlink("busybox", filepath.Join(bin, "sleep")))
	caps := []string{"CAP_KILL"}
	config := map[string]any{
		"ociVersion": version,
		"root":       map[string]any{"path": "rootfs"},
		"process": map[string]any{
			"args": args, "cwd": "/", "env": []string{"PATH=/bin"}, "user": map[string]any{"uid": 0, "gid": 0},
			"capabilities": map[string]any{"bounding": caps, "effective": caps, "permitted": caps},
		},
		"mounts": []any{map[string]any{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": map[string]any{
			"cgroupsPath": fmt.Sprintf("/quoin-oci-test-%d-%s", os.Getpid(), filepath.Base(filepath.Dir(dir))),
			"namespaces":  []any{map[string]any{"type": "pid"}, map[string]any{"type": "mount"}, map[string]any{"type": "ipc"}},
			"resources":   map[string]any{"devices": []any{map[string]any{"allow": true, "access": "rwm"}}},
			"seccomp": map[string]any{
				"defaultAction": "SCMP_ACT_ALLOW",
				// As containerd's default profile does; new in 1.1.0, but not to crun.
				"syscalls": []any{map[string]any{"names": []string{"clone3"}, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}},
			},
		},
	}
	data, err := json.MarshalIndent(config, "", " ")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600))
	return dir
}

func TestRealLifecycle(t *testing.T) {
	for _, b := range beds(t) {
		t.Run(b.name, func(t *testing.T) {
			ctx := t.Context()
			r := newRuntime(t, Config{Binary: b.binary, Root: t.TempDir(), Bundle: realBundle(t, "1.3.0", "sh", "-c", "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 1 & wait; done")})
			t.Cleanup(func() { must(t, r.Delete(background(t), "real", true)) })
			out, stdout, err := os.Pipe()
			must(t, err)
			pid := create(t, r, "real", Stdio{Stdout: stdout})
			must(t, stdout.Close())
			wantVersion := "1.3.0" // runc does not look at it
			if b.name == "crun" {
				wantVersion = "1.0.0"
			}
			if v := readVersion(t, r.cfg.Bundle); v != wantVersion {
				t.Errorf("ociVersion is %s, want %s", v, wantVersion)
			}
			_, err = r.Create(ctx, "real", CreateOptions{PidFile: r.pidFile("other")})
			wantError(t, err, errdefs.IsAlreadyExists)
			must(t, r.Start(ctx, "real"))
			if text := readLine(t, out); text != "hello\n" {
				t.Errorf("output %q", text)
			}
			realControl(t, r, pid)

			must(t, r.Kill(ctx, "real", int(syscall.SIGTERM), false))
			if text, err := io.ReadAll(out); err != nil || !strings.Contains(string(text), "bye") {
				t.Errorf("output %q, %v", text, err)
			}
			must(t, out.Close())
			if ws := reap(t, pid); ws.ExitStatus() != 7 {
				t.Errorf("init: %v", ws)
			}
			wantError(t, r.Kill(ctx, "real", 9, false), errdefs.IsNotFound)
			_, err = r.Exec(ctx, "real", process("true"), ExecOptions{PidFile: r.pidFile("e")})
			wantError(t, err, errdefs.IsFailedPrecondition)
			must(t, r.Delete(ctx, "real", false))
			wantError(t, r.Delete(ctx, "real", false), errdefs.IsNotFound)
			_, err = r.State(ctx, "real")
			wantError(t, err, errdefs.IsNotFound)
			if leftover := openFiles(r.cfg.Bundle); len(leftover) > 0 {
				t.Errorf("open in the bundle: %v", leftover)
			}
		})
	}
}

// realControl does what can be done to a running container.
func realControl(t *testing.T, r *Runtime, pid int) {
	t.Helper()
	ctx := t.Context()
	if s, err := r.State(ctx, "real"); err != nil || s.Status != "running" || s.Pid != pid {
		t.Errorf("state %+v, %v", s, err)
	}
	sleeper, err := r.Exec(ctx, "real", process("sleep", "1000"), ExecOptions{PidFile: r.pidFile("e1")})
	must(t, err)
	pids, err := r.Ps(ctx, "real")
	if err != nil || !slices.Contains(pids, pid) || !slices.Contains(pids, sleeper) {
		t.Errorf("ps %v, %v", pids, err)
	}
	_, err = r.Exec(ctx, "real", process("no-such-program"), ExecOptions{PidFile: r.pidFile("e2")})
	wantError(t, err, nil, "OCI runtime exec failed: ", "no-such-program")
	must(t, r.Pause(ctx, "real"))
	must(t, r.Resume(ctx, "real"))
	must(t, r.Update(ctx, "real", []byte(`{"cpu":{"shares":512}}`)))
	wantError(t, r.Delete(ctx, "real", false), errdefs.IsFailedPrecondition)
	must(t, syscall.Kill(sleeper, syscall.SIGKILL))
	if ws := reap(t, sleeper); ws.Signal() != syscall.SIGKILL {
		t.Errorf("exec: %v", ws)
	}
}

func TestRealErrors(t *testing.T) {
	for _, b := range beds(t) {
		t.Run(b.name, func(t *testing.T) {
			ctx := t.Context()
			known := NewKnown()
			// Each runtime has its own words for what cannot be executed.
			for program, says := range map[string]string{"no-such-program": "no-such-program", "/proc": ""} {
				r := newRuntime(t, Config{Binary: b.binary, Root: t.TempDir(), Known: known, Bundle: realBundle(t, "1.3.0", program)})
				pid, err := r.Create(ctx, "bad", CreateOptions{PidFile: r.pidFile("init")})
				if err == nil { // crun looks at a path only at start
					err = r.Start(ctx, "bad")
					must(t, r.Delete(ctx, "bad", true))
					reap(t, pid)
				}
				wantError(t, err, nil, "OCI runtime ", " failed: ", says)
				must(t, r.Delete(ctx, "bad", true))
			}
			r := newRuntime(t, Config{Binary: b.binary, Root: t.TempDir(), Known: known, Bundle: realBundle(t, "1.3.0", "true")})
			must(t, os.WriteFile(filepath.Join(r.cfg.Bundle, "config.json"), []byte("{"), 0o600))
			_, err := r.Create(ctx, "bad", CreateOptions{PidFile: r.pidFile("init")})
			if err == nil {
				t.Error("a malformed config.json is accepted")
			}
			wantError(t, r.Kill(ctx, "none", 9, true), errdefs.IsNotFound)
			wantError(t, r.Start(ctx, "none"), errdefs.IsNotFound)
			wantError(t, r.Pause(ctx, "none"), errdefs.IsNotFound)
			_, err = r.Ps(ctx, "none")
			wantError(t, err, errdefs.IsNotFound)
			// What a create that was killed leaves.
			must(t, os.Mkdir(filepath.Join(r.cfg.Root, "part"), 0o700))
			_, err = r.State(ctx, "part")
			wantError(t, err, errdefs.IsNotFound)
			if !r.Holds("part") {
				t.Error("a part of a container is none")
			}
			if must(t, r.Delete(ctx, "part", true)); r.Holds("part") {
				t.Error("a part of a container stays")
			}
			v, err := r.Version(ctx)
			if err != nil || v.Name != b.name {
				t.Errorf("version %+v, %v", v, err)
			}
			if _, err := r.Features(ctx); err != nil && !errors.Is(err, errdefs.ErrNotImplemented) {
				t.Errorf("features: %v", err)
			}
			if _, err := exec.LookPath("criu"); err != nil {
				err := r.Checkpoint(ctx, "none", CheckpointOptions{ImagePath: t.TempDir()})
				if !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotImplemented(err) {
					t.Errorf("checkpoint without criu: %v", err)
				}
			}
		})
	}
}

// A spec that uses what came after the version an old crun takes is refused, with
// the field's name, and stays as it is.
func TestRealLoweringRefused(t *testing.T) {
	for _, b := range beds(t) {
		r := newRuntime(t, Config{Binary: b.binary, Root: t.TempDir(), Bundle: realBundle(t, "1.3.0", "true")})
		v, err := r.Version(t.Context())
		must(t, err)
		if release, _ := parseNumbers(v.Release); v.Name != "crun" || !release.less(numbers{1, 8, 5}) {
			continue // it takes any version
		}
		path := filepath.Join(r.cfg.Bundle, "config.json")
		data, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, []byte(strings.Replace(string(data), `"cwd": "/"`, `"cwd": "/", "scheduler": {"policy": "SCHED_BATCH"}`, 1)), 0o600))
		_, err = r.Create(t.Context(), "c", CreateOptions{PidFile: r.pidFile("init")})
		wantError(t, err, errdefs.IsInvalidArgument, "process.scheduler", "1.1.0", v.String())
		if got := readVersion(t, r.cfg.Bundle); got != "1.3.0" {
			t.Errorf("the spec was lowered to %s", got)
		}
		must(t, r.Delete(t.Context(), "c", true))
	}
}

// The cost of this package beside the runtime's own.
func BenchmarkVersion(b *testing.B) {
	for _, name := range []string{"runc", "crun", "true"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		r := newRuntime(b, Config{Binary: path, Bundle: b.TempDir()})
		b.Run(name+"/Runtime", func(b *testing.B) {
			for b.Loop() {
				_, err := r.run(b.Context(), call{op: "--version", deadline: r.cfg.Deadlines.Control, args: []string{"--version"}, capture: maxOutput})
				must(b, err)
			}
		})
		b.Run(name+"/exec", func(b *testing.B) {
			for b.Loop() {
				must(b, exec.Command(path, "--version").Run())
			}
		})
	}
}

func process(args ...string) []byte {
	data, err := json.Marshal(map[string]any{"args": args, "cwd": "/", "env": []string{"PATH=/bin"}, "user": map[string]any{"uid": 0, "gid": 0}})
	if err != nil {
		return nil // strings always encode
	}
	return data
}

func readLine(t testing.TB, f *os.File) string {
	t.Helper()
	var line []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(line), "\n") {
		if _, err := f.Read(one); err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
		line = append(line, one[0])
	}
	return string(line)
}

// openFiles are this process's descriptors below dir.
func openFiles(dir string) []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return []string{err.Error()}
	}
	var open []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, dir) {
			open = append(open, target)
		}
	}
	return open
}
