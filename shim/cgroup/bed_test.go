// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary runs itself again for two purposes: as the process inside a
// cgroup (helperEnv), and as a test in a mount namespace of its own where only
// cgroup2 is mounted (unifiedEnv).
const (
	helperEnv  = "QUOIN_CGROUP_TEST_HELPER"
	unifiedEnv = "QUOIN_CGROUP_TEST_UNIFIED"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		helper(mode)
	}
	os.Exit(m.Run())
}

// inUnified runs the rest of the calling test in a private mount namespace with
// cgroup2 on /sys/fs/cgroup. It returns true inside of it.
func inUnified(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	if os.Getenv(unifiedEnv) == t.Name() {
		if err := unix.Mount("cgroup2", mountPoint, "cgroup2", 0, ""); err != nil {
			t.Fatalf("mount cgroup2 on %s: %v", mountPoint, err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), unifiedEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in the mount namespace: %v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("the test did not run in the mount namespace:\n%s", out)
	}
	return false
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("cgroups are made as root")
	}
}

// process is a helper that runs in a cgroup.
type process struct {
	*exec.Cmd
	stdin  *os.File
	stdout *os.File
}

// start runs a helper and waits until it says that it is ready. It is not yet
// in any cgroup of its own.
func start(t *testing.T, mode string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+mode)
	cmd.Stderr = os.Stderr
	inR, inW, err := os.Pipe()
	must(t, err)
	outR, outW, err := os.Pipe()
	must(t, err)
	cmd.Stdin, cmd.Stdout = inR, outW
	must(t, cmd.Start())
	_ = inR.Close()
	_ = outW.Close()
	p := &process{Cmd: cmd, stdin: inW, stdout: outR}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = inW.Close()
		_ = outR.Close()
	})
	p.expect(t, "ready")
	return p
}

func (p *process) expect(t *testing.T, word string) {
	t.Helper()
	must(t, p.stdout.SetReadDeadline(time.Now().Add(20*time.Second)))
	var buf [64]byte
	n, err := p.stdout.Read(buf[:])
	if got := strings.TrimSpace(string(buf[:n])); got != word {
		t.Fatalf("helper said %q, want %q (%v)", got, word, err)
	}
}

func (p *process) tell(t *testing.T, word string) {
	t.Helper()
	_, err := p.stdin.WriteString(word + "\n")
	must(t, err)
}

// helper is the process inside the cgroup; its commands come on stdin.
func helper(mode string) {
	fmt.Println("ready")
	var word string
	for {
		if _, err := fmt.Scan(&word); err != nil {
			os.Exit(0)
		}
		switch word {
		case "work":
			for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
				_, _ = os.ReadFile("/proc/self/maps")
			}
			fmt.Println("worked")
		case "exit":
			os.Exit(3)
		case "leave":
			fmt.Println(leave())
		case "eat":
			eat(4 * limit)
			fmt.Println("alive")
		case "huge":
			huge()
			fmt.Println("huge")
		case "child":
			// A child is killed for want of memory while this process lives.
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), helperEnv+"=child")
			cmd.Stdin = strings.NewReader("eat\n")
			err := cmd.Run()
			fmt.Println(map[bool]string{true: "killed", false: "survived"}[err != nil])
		case "fork":
			forkForever()
		}
	}
}

func eat(n int) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		os.Exit(4)
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}

// huge asks for a huge page beyond the limit: the kernel counts it and refuses.
func huge() {
	b, err := unix.Mmap(-1, 0, 2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_HUGETLB)
	if err == nil {
		_ = unix.Munmap(b)
	}
}

// forkForever leaves children behind that outlive it, as fast as it can.
func forkForever() {
	script := `fork() { sleep 300 & }; i=0; while [ $i -lt 400 ]; do fork; (sleep 300 & sleep 300 &) ; i=$((i+1)); done; echo forked; sleep 300`
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout = os.Stdout
	_ = cmd.Run()
}

// makeLegacy makes a cgroup in every v1 hierarchy (not in the unified one) and
// puts pid into it; it is removed after the test.
func makeLegacy(t *testing.T, pid int) *Cgroup {
	t.Helper()
	needRoot(t)
	name := testName(t)
	t.Cleanup(func() { removeAll(t, name) })
	must(t, Join(name, pid))
	c, err := Load(pid)
	must(t, err)
	if c.Mode() != Hybrid && c.Mode() != Legacy {
		t.Skipf("the host is %s: v1 is not mounted", c.Mode())
	}
	return c
}

// makeUnified does the same where inUnified returned true.
func makeUnified(t *testing.T, pid int) *Cgroup {
	t.Helper()
	name := testName(t)
	t.Cleanup(func() { removeAll(t, name) })
	must(t, Join(name, pid))
	c, err := Load(pid)
	must(t, err)
	if c.Mode() != Unified || c.Dir() != filepath.Join(mountPoint, name) {
		t.Fatalf("loaded %s %s", c.Mode(), c)
	}
	return c
}

func testName(t *testing.T) string {
	return fmt.Sprintf("/quoin-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
}

// removeAll kills what is left in the cgroup and removes its directories.
func removeAll(t *testing.T, name string) {
	t.Helper()
	c, err := Open(name)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Kill(ctx, unix.SIGKILL); err != nil {
		t.Errorf("clean up: %v", err)
	}
	for _, dir := range dirsOf(c) {
		var dirs []string
		_ = walk(dir, func(d string) error { dirs = append(dirs, d); return nil })
		for i := len(dirs) - 1; i >= 0; i-- {
			eventually(t, "remove "+dirs[i], func() bool {
				err := os.Remove(dirs[i])
				return err == nil || errors.Is(err, os.ErrNotExist)
			})
		}
	}
}

func dirsOf(c *Cgroup) []string {
	var dirs []string
	if c.unified != "" {
		dirs = append(dirs, c.unified)
	}
	for _, d := range c.legacy {
		if !d.top {
			dirs = append(dirs, d.dir)
		}
	}
	return dirs
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls for what the kernel does without telling.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for b := (backoff{}); !ok(); {
		if b.wait(ctx) != nil {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
