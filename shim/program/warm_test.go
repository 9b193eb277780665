// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/quoin-io/quoin/shim/oci/ocitest"
)

// The environment that makes the test binary start a command on a file system that
// hangs: its program, and its directory.
const (
	programEnv = "QUOIN_TEST_PROGRAM"
	dirEnv     = "QUOIN_TEST_DIR"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(programEnv); path != "" {
		if err := outlive(&exec.Cmd{Path: path, Dir: os.Getenv(dirEnv), SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// outlive starts the command, waits until that hangs, and needs the whole process.
func outlive(cmd *exec.Cmd) error {
	go func() { _ = Children{}.Start(cmd) }()
	for !waitsForFUSE() {
		runtime.Gosched()
	}
	runtime.GC()
	return exec.Command("/bin/true").Run()
}

// waitsForFUSE tells whether a thread of this process waits for a file system.
func waitsForFUSE() bool {
	stacks, _ := filepath.Glob("/proc/self/task/*/stack")
	for _, path := range stacks {
		if stack, err := os.ReadFile(path); err == nil && bytes.Contains(stack, []byte("fuse_")) {
			return true
		}
	}
	return false
}

// TestStartOnAHungFileSystem: a process that starts a program on a file system that
// does not answer lives on, and starts others.
func TestStartOnAHungFileSystem(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]func(path string) []string{
		"program":   func(path string) []string { return []string{programEnv + "=" + path} },
		"directory": func(path string) []string { return []string{programEnv + "=/bin/true", dirEnv + "=" + path} },
	} {
		t.Run(name, func(t *testing.T) {
			hung := ocitest.HungDir(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, self)
			cmd.WaitDelay = time.Second // what it forked has its output, too
			cmd.Env = append(append(os.Environ(), "GOMAXPROCS=1"), env(hung+"/x")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("the process that starts it: %v\n%s", errors.Join(err, ctx.Err()), out)
			}
		})
	}
}

// TestMissing: what is not there is told by the start.
func TestMissing(t *testing.T) {
	path := t.TempDir() + "/program"
	if err := (Children{}).Start(exec.Command(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	cmd := exec.Command("/bin/true")
	cmd.Dir = path
	if err := (Children{}).Start(cmd); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
