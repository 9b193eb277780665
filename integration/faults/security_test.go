// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/go-cmp/cmp"

	"github.com/quoin-io/quoin/config"
	"github.com/quoin-io/quoin/integration/harness"
)

// script writes a program of shell.
func script(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLeakedDescriptorsGoNowhere: what a daemon holds open without care, such as a
// directory of the host, is neither held by the shim nor seen by an OCI runtime, a
// logger or a container.
func TestLeakedDescriptorsGoNowhere(t *testing.T) {
	if harness.Reference() {
		return
	}
	harness.ForBoth(t, "leak", func(t *testing.T, spec harness.Spec) {
		dir := t.TempDir()
		secret := filepath.Join(dir, "leaked-secret")
		if err := os.Mkdir(secret, 0o700); err != nil {
			t.Fatal(err)
		}
		leak, err := os.Open(secret)
		if err != nil {
			t.Fatal(err)
		}
		defer leak.Close()
		spec.Files = []*os.File{leak, leak, leak}
		d := harness.Start(t, spec)

		const list = `ls -l /proc/$$/fd`
		runtime := script(t, dir, "runtime", list+` >>`+dir+`/runtime.fds; exec `+harness.Runc.Path()+` "$@"`)
		logger := script(t, dir, "logger", list+` >`+dir+`/logger.fds; exec 5>&-; exec cat <&3 >`+dir+`/container.fds`)
		r := d.Run(t, "c", harness.Container{
			Args:    []string{"sh", "-c", "ls -l /proc/1/fd /proc/self/fd; sleep 1000"},
			Options: &options.Options{BinaryName: runtime},
			IO:      cio.BinaryIO(logger, nil),
		})
		shim := d.Shim(t, "c").PID
		r.RunExec(t, "e", "true")
		harness.Eventually(t, "the container has listed what it has", func() string {
			if text, err := os.ReadFile(dir + "/container.fds"); err != nil || strings.Count(string(text), "/proc/") < 2 {
				return fmt.Sprintf("%q, %v", text, err)
			}
			return ""
		})
		for _, who := range []string{"runtime", "logger", "container"} {
			text, err := os.ReadFile(dir + "/" + who + ".fds")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "->") || strings.Contains(string(text), "leaked-secret") {
				t.Errorf("the %s has:\n%s", who, text)
			}
		}
		for pid, who := range map[int]string{shim: "shim", d.PID(): "daemon"} {
			if has, want := holds(t, pid, secret), who == "daemon"; has != want {
				t.Errorf("the %s holds the leak: %v", who, has)
			}
		}
		r.Signal(t, 9)
		r.AwaitExit(t)
		r.Delete(t)
	})
}

func holds(t *testing.T, pid int, path string) bool {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == path {
			return true
		}
	}
	return false
}

// TestSpecReachesTheRuntime: what confines a container is for the OCI runtime to
// act on, and it gets it as the client wrote it, also where the spec's version is
// lowered for a runtime that knows no newer one.
func TestSpecReachesTheRuntime(t *testing.T) {
	if harness.Reference() {
		return
	}
	confined := []oci.SpecOpts{
		seccomp.WithDefaultProfile(),
		func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
			s.Process.ApparmorProfile = "quoin-test"
			s.Process.SelinuxLabel = "system_u:system_r:container_t:s0:c1,c2"
			s.Process.NoNewPrivileges = true
			s.Process.User.AdditionalGids = []uint32{10, 2147483647}
			return nil
		},
	}
	// Both runtimes keep the spec and make no container.
	const keep = `case "$*" in *create*) cp "$PWD_BUNDLE/config.json" %[1]s/got.json; exit 1 ;; *) exit 0 ;; esac`
	for name, body := range map[string]string{
		"new": keep,
		"old": `case "$*" in *--version*) printf 'crun version 1.8.1\nspec: 1.0.0\n'; exit 0 ;; *create*)
			if [ ! -e %[1]s/refused ]; then
				: >%[1]s/refused
				echo '{"level":"error","msg":"unknown version specified"}' >"$LOG"
				exit 1
			fi ;; esac
		` + keep,
	} {
		t.Run(name, func(t *testing.T) {
			harness.OnBoth(t, "spec-"+name, func(t *testing.T, d *harness.Daemon) {
				dir := t.TempDir()
				words := `last=
for arg; do
	case $last in --bundle) PWD_BUNDLE=$arg ;; --log) LOG=$arg ;; esac
	last=$arg
done
`
				runtime := script(t, dir, "runtime", words+fmt.Sprintf(body, dir))
				c := d.New(t, "c", harness.Container{Args: []string{"true"}, Spec: confined, Options: &options.Options{BinaryName: runtime}})
				ctx := d.Context(t, "")
				_, refused := c.NewTask(ctx, cio.NullIO)
				if refused == nil || !strings.Contains(refused.Error(), "OCI runtime create failed") {
					t.Fatalf("a runtime that makes nothing: %v", refused)
				}
				want, err := c.Spec(ctx)
				if err != nil {
					t.Fatal(err)
				}
				data, err := os.ReadFile(filepath.Join(dir, "got.json"))
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]any
				if err := json.Unmarshal(data, &got); err != nil {
					t.Fatal(err)
				}
				if lowered := got["ociVersion"] == "1.0.0"; lowered != (name == "old") {
					t.Errorf("ociVersion is %v", got["ociVersion"])
				}
				for section, value := range map[string]any{"process": want.Process, "linux": want.Linux, "mounts": want.Mounts, "root": want.Root} {
					if diff := cmp.Diff(generic(t, value), got[section]); diff != "" {
						t.Errorf("%s (-client +runtime):\n%s", section, diff)
					}
				}
				d.Remove(t, "c")
			})
		})
	}
}

// generic is a value as JSON has it.
func generic(t *testing.T, value any) any {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLoggersFromConfiguredDirectories: where that is asked for, a client cannot
// have the shim run a program from anywhere else, by a link or a detour either.
func TestLoggersFromConfiguredDirectories(t *testing.T) {
	if harness.Reference() {
		return // it runs what it is told
	}
	harness.ForBoth(t, "loggers", func(t *testing.T, spec harness.Spec) {
		allowed, elsewhere := t.TempDir(), t.TempDir()
		const body = `exec 5>&-; cat <&3 >%s/%s.out`
		good := script(t, allowed, "good", fmt.Sprintf(body, allowed, "good"))
		bad := script(t, elsewhere, "bad", fmt.Sprintf(body, elsewhere, "bad"))
		link := filepath.Join(allowed, "link")
		if err := os.Symlink(bad, link); err != nil {
			t.Fatal(err)
		}
		if spec.Kind == harness.KindQuoind {
			spec.Plugins = map[string]map[string]any{"io.quoin.runtime.v1.quoin": {"logger_dirs": []string{allowed}}}
		} else {
			spec.Env = []string{config.LoggerDirsEnv + "=" + allowed}
		}
		d := harness.Start(t, spec)
		for i, logger := range []string{bad, link, filepath.Join(allowed, "..", filepath.Base(elsewhere), "bad")} {
			id := fmt.Sprint("bad", i)
			_, err := d.TryCreate(t, id, harness.Container{Args: []string{"true"}, IO: cio.BinaryIO(logger, nil)})
			if err == nil || !strings.Contains(err.Error(), "is in none of the directories that loggers may be run from") {
				t.Errorf("%s: %v", logger, err)
			}
			d.Remove(t, id)
		}
		if _, err := os.Stat(filepath.Join(elsewhere, "bad.out")); err == nil {
			t.Error("the logger from elsewhere was run")
		}
		r := d.Run(t, "good", harness.Container{Args: []string{"echo", "logged"}, IO: cio.BinaryIO(good, nil)})
		r.AwaitExit(t)
		r.Delete(t)
		if text, err := os.ReadFile(filepath.Join(allowed, "good.out")); err != nil || string(text) != "logged\n" {
			t.Errorf("%q, %v", text, err)
		}
	})
}
